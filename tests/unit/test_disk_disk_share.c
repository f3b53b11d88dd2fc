/* tests/unit/test_disk_disk_share.c - a disk that others read as well, by QEMU's own client. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "tests/support/disk_images.h"

TestSuite(disk_share, .timeout = 120);

#define COMMANDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Aborts the test if what is read is something else. */
static void read_shared(const char *uri, const char *command)
{
        tool_run((const char *const[]){"qemu-io", "-r", "-f", "raw", uri, "-c", command, NULL});
}

Test(disk_share, one_that_is_shared_is_read_by_others_until_it_is_freed)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *below = image_make(t, "below.qcow2", "8M", NULL),
                        *top = image_make(t, "t", "8M", NULL);
        g_autofree char *socket = tempdir_path(t, "s"),
                        *uri = g_strdup_printf("nbd+unix:///?socket=%s", socket);
        const struct disk_image chain[] = {{top, "qcow2"}, {below, "qcow2"}};
        const struct disk_options options = {.share_at = socket};
        g_autoptr(GError) error = NULL;
        guint8 byte = 0;
        struct stat st;
        Disk *d;

        image_io(below, "qcow2", COMMANDS("write -P 1 0 8M"));
        image_io(top, "qcow2", COMMANDS("write -P 2 1M 64k"));
        d = disk_open(chain, 2, &options, NULL, &error);
        cr_assert(d != NULL, "%s", error ? error->message : "");
        cr_expect(stat(socket, &st) == 0 && (st.st_mode & 0777) == 0660);
        for (int again = 0; again < 3; again++) { /* it does not end with a client */
                read_shared(uri, "read -P 2 1M 64k");
                read_shared(uri, "read -P 1 2M 6M");
        }
        cr_expect(disk_read(d, 1 << 20, &byte, 1, NULL, NULL));
        cr_expect(eq(u8, byte, 2));
        cr_expect(disk_is_alive(d));
        kill(disk_process(d), SIGKILL);
        while (disk_is_alive(d))
                g_usleep(1000); /* the test's time is its deadline */
        disk_free(d);
        cr_expect(stat(socket, &st) != 0);
}

Test(disk_share, what_cannot_be_opened_leaves_no_name)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "d", "8M", NULL), *socket = tempdir_path(t, "s");
        const struct disk_image chain[] = {{path, "qcow2"}};
        const struct disk_options options = {.share_at = socket, .size = 4096};
        g_autoptr(GError) error = NULL;
        struct stat st;

        cr_expect(disk_open(chain, 1, &options, NULL, &error) == NULL);
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED), "%s", error->message);
        cr_expect(stat(socket, &st) != 0);
}
