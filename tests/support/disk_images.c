/* tests/support/disk_images.c - disk images made and looked into by QEMU's own tools. */
#include "tests/support/disk_images.h"

#include <gio/gio.h>

void tool_run(const char *const *argv)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GSubprocess) p = g_subprocess_newv(argv, G_SUBPROCESS_FLAGS_STDOUT_SILENCE, &error);

        if (!p || !g_subprocess_wait_check(p, NULL, &error))
                g_error("%s: %s", argv[0], error->message);
}

char *image_make(const TempDir *t, const char *name, const char *size, const char *more)
{
        char *path = tempdir_path(t, name);
        const char *argv[] = {"qemu-img", "create",           "-q", "-u", "-f", "qcow2", path,
                              size,       more ? "-o" : NULL, more, NULL};

        tool_run(argv);
        return path;
}

void image_io(const char *path, const char *format, const char *const *commands)
{
        g_autoptr(GPtrArray) argv = g_ptr_array_new();

        g_ptr_array_add(argv, (char *)"qemu-io");
        g_ptr_array_add(argv, (char *)"-f");
        g_ptr_array_add(argv, (char *)format);
        for (; *commands; commands++) {
                g_ptr_array_add(argv, (char *)"-c");
                g_ptr_array_add(argv, (char *)*commands);
        }
        g_ptr_array_add(argv, (char *)path);
        g_ptr_array_add(argv, NULL);
        tool_run((const char *const *)argv->pdata);
}

Disk *disk_must_open(const char *path, const char *below, gboolean writable)
{
        const struct disk_image chain[] = {{path, "qcow2"}, {below, "qcow2"}};
        const struct disk_options options = {.writable = writable};
        g_autoptr(GError) error = NULL;
        Disk *d = disk_open(chain, below ? 2 : 1, &options, NULL, &error);

        if (!d)
                g_error("%s", error->message);
        return d;
}

char *map_text(Disk *d, guint depth)
{
        static const char letters[] = {[DISK_DATA] = 'D', [DISK_ZERO] = 'Z', [DISK_ABSENT] = 'A'};
        g_autoptr(GError) error = NULL;
        g_autoptr(GArray) map = disk_map(d, depth, NULL, &error);
        GString *s = g_string_new(NULL);

        if (!map)
                g_error("%s", error->message);
        for (guint i = 0; i < map->len; i++) {
                const struct disk_range *r = &g_array_index(map, struct disk_range, i);
                g_string_append_printf(s, "%s%c%" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT, i > 0 ? " " : "",
                                       letters[r->kind], r->offset / 1024, r->length / 1024);
        }
        return g_string_free(s, FALSE);
}
