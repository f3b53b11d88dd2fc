/* tests/support/disk_cat.c - reads from a disk in image files, or writes to it, as moultd does: itself where
 * it may, else through moult-disks.
 *
 *     disk_cat SOCKET read OFFSET LENGTH PATH:FORMAT...        the newest image first
 *     disk_cat SOCKET write OFFSET TEXT PATH:FORMAT...
 *
 * With DISK_CAT_HOLD in the environment it makes this file when the disk is open, and waits until it is gone.
 */
#include <gio/gio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host-service/disk/disk.h"

static void hold(void)
{
        const char *path = g_getenv("DISK_CAT_HOLD");

        if (!path || !g_file_set_contents(path, "", 0, NULL))
                return;
        while (g_file_test(path, G_FILE_TEST_EXISTS))
                g_usleep(20000);
}

static gboolean work(Disk *d, gboolean write, guint64 offset, const char *what, GError **error)
{
        gsize len = write ? strlen(what) : (gsize)g_ascii_strtoull(what, NULL, 10);
        g_autofree char *buf = g_malloc0(len + 1);

        if (write)
                return disk_write(d, offset, what, len, NULL, error);
        if (!disk_read(d, offset, buf, len, NULL, error))
                return FALSE;
        fwrite(buf, 1, len, stdout);
        return TRUE;
}

int main(int argc, char **argv)
{
        struct disk_image chain[DISK_CHAIN_MAX];
        struct disk_options options = {0};
        g_autoptr(GError) error = NULL;
        guint n = 0;
        Disk *d;

        if (argc < 6 || argc - 5 > (int)DISK_CHAIN_MAX)
                return 2;
        for (int i = 5; i < argc; i++) {
                char *colon = strrchr(argv[i], ':');

                if (!colon)
                        return 2;
                *colon = '\0';
                chain[n++] = (struct disk_image){argv[i], colon + 1};
        }
        options.writable = strcmp(argv[2], "write") == 0;
        options.helper = argv[1];
        d = disk_open(chain, n, &options, NULL, &error);
        if (d)
                hold();
        if (d && work(d, options.writable, g_ascii_strtoull(argv[3], NULL, 10), argv[4], &error))
                disk_close(d, &error);
        else
                disk_free(d);
        if (error)
                fprintf(stderr, "%s\n", error->message);
        return error ? 1 : 0;
}
