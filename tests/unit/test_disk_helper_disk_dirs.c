/* tests/unit/test_disk_helper_disk_dirs.c - the list of directories: read as it was meant, and trusted only
 * if it is root's. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "host-service/disk-helper/disk_dirs.h"
#include "tests/support/tempdir.h"

TestSuite(disk_dirs, .timeout = 10);

static DiskDirs *read_text(TempDir *t, const char *text, GError **error)
{
        g_autofree char *path = tempdir_path(t, "disks.conf");

        tempdir_put(t, "disks.conf", text, strlen(text));
        cr_assert(eq(int, chmod(path, 0644), 0));
        return disk_dirs_read(path, error);
}

Test(disk_dirs, the_list_is_read)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(DiskDirs) none = read_text(t, "# nothing\n[moult-disks]\n", NULL),
                            two = read_text(t, "[moult-disks]\ndirectories = /a b/; /srv/vms\n", NULL);

        cr_assert(none && two);
        cr_expect(disk_dirs_list(none)[0] == NULL);
        cr_expect(eq(str, (char *)disk_dirs_list(two)[0], "/a b"));
        cr_expect(eq(str, (char *)disk_dirs_list(two)[1], "/srv/vms"));
        cr_expect(disk_dirs_list(two)[2] == NULL);
}

Test(disk_dirs, what_is_wrong_in_it_is_an_error)
{
        static const char *const wrong[] = {
                "[moult-disks]\ndirectories = /\n",
                "[moult-disks]\ndirectories = vms\n",
                "[moult-disks]\ndirectories = /a/../b\n",
                "[moult-disks]\ndirectories = /a;;/b\n",
                "[moult-disks]\ndirectory = /a\n",
                "[other]\n",
                "directories = /a\n",
                "[moult-disks]\ndirectories = /a//b\n",
        };
        g_autoptr(TempDir) t = tempdir_new();

        for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
                g_autoptr(GError) error = NULL;

                cr_expect(read_text(t, wrong[i], &error) == NULL, "%s", wrong[i]);
                cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_MALFORMED), "%s", wrong[i]);
        }
}

Test(disk_dirs, a_list_that_others_can_change_is_not_believed)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(DiskDirs) d = read_text(t, "[moult-disks]\ndirectories = /a\n", NULL);
        g_autofree char *path = tempdir_path(t, "disks.conf");
        g_autoptr(GError) error = NULL;

        cr_assert(d != NULL);
        chmod(path, 0664);
        cr_expect(disk_dirs_read(path, &error) == NULL);
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED));
        g_clear_error(&error);
        if (getuid() != 0)
                return;
        chmod(path, 0644);
        cr_assert(eq(int, chown(path, 65534, 65534), 0));
        cr_expect(disk_dirs_read(path, &error) == NULL);
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED));
}

Test(disk_dirs, a_link_in_the_list_is_followed_unless_an_unprivileged_user_can_turn_it)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *text = g_strdup_printf("[moult-disks]\ndirectories = %s/led\n", t->path),
                        *led = tempdir_path(t, "led"), *below = tempdir_path(t, "led/below");
        g_autoptr(DiskDirs) d = read_text(t, text, NULL);
        g_autoptr(GError) error = NULL;
        int fd;

        cr_assert(d != NULL);
        cr_assert(eq(int, mkdirat(t->fd, "real", 0755), 0));
        cr_assert(eq(int, mkdirat(t->fd, "real/below", 0755), 0));
        cr_assert(eq(int, symlinkat("real", t->fd, "led"), 0));
        fd = disk_dirs_open(d, below, &error);
        cr_assert(fd >= 0, "%s", error ? error->message : "");
        close(fd);
        if (getuid() != 0)
                return;
        cr_assert(eq(int, lchown(led, 65534, 65534), 0));
        cr_expect(eq(int, disk_dirs_open(d, below, &error), -1));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED));
        cr_expect(strstr(error->message, "can turn") != NULL);
}
