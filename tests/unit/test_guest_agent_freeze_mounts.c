/* tests/unit/test_guest_agent_freeze_mounts.c - which file systems a freeze is for, and in which order. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest-agent/freeze_mounts.h"

TestSuite(freeze_mounts, .timeout = 30);

static const char table[] = "21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
                            "22 21 0:5 / /dev rw - devtmpfs udev rw\n"
                            "23 21 0:21 / /proc rw - proc proc rw\n"
                            "24 21 0:23 / /run rw - tmpfs tmpfs rw\n"
                            "25 21 254:15 / /boot/efi rw - vfat /dev/vda15 rw\n"
                            "26 21 254:16 / /srv rw - xfs /dev/vdb rw\n"
                            "27 26 7:0 / /srv/image rw - ext4 /dev/loop0 rw\n"
                            "28 21 254:16 /web /var/www rw - xfs /dev/vdb rw\n"
                            "29 21 0:40 / /home rw - nfs4 nas:/home rw\n"
                            "30 21 0:41 / /usr ro - overlay moult rw,lowerdir=/usr\n"
                            "31 21 0:42 / /opt rw - fuse.moult-targetfs moult rw\n"
                            "32 21 8:3 / /mnt/usb rw - fuseblk /dev/sda3 rw\n"
                            "33 21 254:32 / /ro ro - squashfs /dev/vdc ro\n"
                            "34 21 254:48 / /archive ro - ext4 /dev/vdd ro\n"
                            "35 21 254:64 / /looks-ro ro - ext4 /dev/vde rw\n"
                            "36 21 0:50 /@ /data\\040one rw - btrfs /dev/vdf rw\n"
                            "37 21 0:50 /@home /data2 rw - btrfs /dev/vdf rw\n"
                            "garbage\n";

static char *chosen(const char *text)
{
        g_autoptr(MountTable) t = mount_table_parse(text);
        g_autoptr(GPtrArray) targets = freeze_mounts_select(t);
        GString *names = g_string_new(NULL);

        for (guint i = 0; i < targets->len; i++) {
                const struct freeze_target *target = targets->pdata[i];

                for (guint k = 0; k < target->mounts->len; k++)
                        g_string_append_printf(names, "%s%s",
                                               k   ? "="
                                               : i ? " "
                                                   : "",
                                               ((struct mount *)target->mounts->pdata[k])->point);
        }
        return g_string_free(names, FALSE);
}

Test(freeze_mounts, each_disk_once_and_the_last_mounted_first)
{
        g_autofree char *names = chosen(table);

        cr_expect(eq(str, names, "/data one=/data2 /looks-ro /srv/image /srv=/var/www /boot/efi /"));
}

Test(freeze_mounts, nothing_of_nothing)
{
        g_autofree char *names = chosen("24 21 0:23 / /run rw - tmpfs tmpfs rw\n");

        cr_expect(eq(str, names, ""));
}

Test(freeze_mounts, a_mount_that_is_covered_is_not_taken_for_another)
{
        g_autoptr(MountTable) t = mount_table_load(NULL);
        g_autoptr(GError) error = NULL;
        struct stat st;
        guint64 id = 0;
        int fd;

        for (guint i = 0; i < mount_table_size(t); i++)
                if (g_str_equal(mount_table_get(t, i)->point, "/"))
                        id = mount_table_get(t, i)->id;
        cr_assert(eq(int, stat("/", &st), 0));
        fd = freeze_mount_open("/", id, st.st_dev, &error);
        cr_assert(ge(int, fd, 0), "%s", error ? error->message : "");
        close(fd);
        cr_expect(eq(int, freeze_mount_open("/", id + 100000, st.st_dev, &error), -1));
        cr_expect(ne(ptr, strstr(error->message, "covered"), NULL));
        g_clear_error(&error);
        cr_expect(eq(int, freeze_mount_open("/nowhere", id, st.st_dev, &error), -1));
        cr_expect(ne(ptr, error, NULL));
}
