/* host-service/snapshot/known_disks.c - a VM's disks by the catalogue. */
#include "host-service/snapshot/known_disks.h"

#include "host-service/catalogue/snapshots.h"
#include "host-service/snapshot/layer_line.h"
#include "host-service/snapshot/layer_name.h"

static void image_free(gpointer data)
{
        struct vm_image *image = data;

        g_free(image->file);
        g_free(image->format);
        g_free(image);
}

static struct vm_disk *disk_new(const char *device, char *file, guint64 size)
{
        struct vm_disk *d = g_new0(struct vm_disk, 1);

        d->device = g_strdup(device);
        d->format = g_strdup("qcow2");
        d->file = file;
        d->size_bytes = size;
        d->writable = TRUE;
        d->below = g_ptr_array_new_with_free_func(image_free);
        return d;
}

/* What the layer @id shows is in these files. "": nothing is below. */
static gboolean add_below(Catalogue *c, const char *id, struct vm_disk *d, GError **error)
{
        g_autoptr(GPtrArray) line = *id ? catalogue_layer_line(c, id, error) : NULL;
        g_autoptr(FileChain) files = line ? layer_line_files(line, 0, line->len, error) : NULL;

        if (*id && !files) {
                g_prefix_error(error, "the disk %s: ", d->device);
                return FALSE;
        }
        for (guint i = 0; files && i < files->images->len; i++) {
                const struct disk_image *from = &g_array_index(files->images, struct disk_image, i);
                struct vm_image *image = g_new0(struct vm_image, 1);

                image->file = g_strdup(from->path);
                image->format = g_strdup(from->format);
                g_ptr_array_add(d->below, image);
        }
        return TRUE;
}

GPtrArray *known_disks(Catalogue *c, const char *vm, GError **error)
{
        g_autoptr(GPtrArray) seen = catalogue_snapshot_disks(c, vm, error);
        g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify)vm_disk_free);

        for (guint i = 0; seen && i < seen->len; i++) {
                const struct snapshot_disk *s = seen->pdata[i];
                g_autofree char *dir = g_path_get_dirname(s->path);
                g_autofree char *on = s->next_on ? g_strdup(s->next_on) : layer_name_id(s->layer);
                struct vm_disk *d = disk_new(s->device, g_build_filename(dir, s->next, NULL), s->size_bytes);

                g_ptr_array_add(all, d);
                if (!add_below(c, on, d, error))
                        return NULL;
        }
        return seen ? g_steal_pointer(&all) : NULL;
}

void known_disks_add(GPtrArray *disks, const char *path)
{
        g_ptr_array_add(disks, disk_new(path, g_strdup(path), 0));
}

struct vm_disk *known_disks_find(const GPtrArray *disks, const char *path)
{
        g_autofree char *dir = g_path_get_dirname(path), *name = g_path_get_basename(path);

        for (guint i = 0; i < disks->len; i++) {
                struct vm_disk *d = disks->pdata[i];
                g_autofree char *in = g_path_get_dirname(d->file), *top = g_path_get_basename(d->file);
                g_autofree char *of = layer_name_base(top);

                if (g_str_equal(in, dir) && g_strcmp0(of, name) == 0)
                        return d;
        }
        return NULL;
}
