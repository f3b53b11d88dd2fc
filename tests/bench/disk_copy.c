/* tests/bench/disk_copy.c - host-service/disk, to be timed: "copy FROM TO", "compare A B"; all
 * qcow2. */
#include <stdio.h>
#include <string.h>

#include "host-service/disk/disk.h"

static Disk *open_one(const char *path, gboolean writable)
{
        const struct disk_options options = {.writable = writable};
        g_autoptr(GError) error = NULL;
        Disk *d = disk_open(&(struct disk_image){path, "qcow2"}, 1, &options, NULL, &error);

        if (!d)
                g_error("%s", error->message);
        return d;
}

static gboolean copy(const char *a, const char *b, GError **error)
{
        g_autoptr(Disk) from = open_one(a, FALSE), to = open_one(b, TRUE);
        g_autoptr(GArray) map = disk_map(from, DISK_ALL, NULL, error);

        return map && disk_copy(from, map, to, NULL, NULL, error) && disk_close(g_steal_pointer(&to), error);
}

static gboolean compare(const char *a, const char *b, GError **error)
{
        g_autoptr(Disk) one = open_one(a, FALSE), two = open_one(b, FALSE);
        guint64 at = 0;

        if (!disk_compare(one, two, NULL, &at, NULL, NULL, error))
                return FALSE;
        if (at != DISK_SAME)
                g_error("%s and %s differ at %" G_GUINT64_FORMAT, a, b, at);
        return TRUE;
}

int main(int argc, char **argv)
{
        g_autoptr(GError) error = NULL;
        gboolean ok = FALSE;

        if (argc == 4 && strcmp(argv[1], "copy") == 0)
                ok = copy(argv[2], argv[3], &error);
        else if (argc == 4 && strcmp(argv[1], "compare") == 0)
                ok = compare(argv[2], argv[3], &error);
        else
                return fprintf(stderr, "usage: %s copy FROM TO | compare A B\n", argv[0]), 2;
        if (!ok)
                fprintf(stderr, "%s\n", error->message);
        return ok ? 0 : 1;
}
