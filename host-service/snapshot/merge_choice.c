/* host-service/snapshot/merge_choice.c - which two files. */
#include "host-service/snapshot/merge_choice.h"

#include "common/error.h"
#include "host-service/catalogue/layers.h"
#include "host-service/snapshot/disk_choice.h"
#include "host-service/snapshot/layer_name.h"

/* The VM's layer that is the newest in what lies @depth below the top. NULL without @error: none. */
static LayerRecord *layer_at(Catalogue *c, const char *vm, const struct vm_disk *d, guint depth,
                             GError **error)
{
        const struct vm_image *image = d->below->len > depth ? d->below->pdata[depth] : NULL;
        g_autoptr(LayerRecord) r = NULL;

        if (!image || !image->file)
                return NULL;
        r = catalogue_layer_of_file(c, image->file, error);
        if (!r || g_strcmp0(r->vm, vm) != 0)
                return NULL;
        if (g_strcmp0(r->format, image->format) == 0)
                return g_steal_pointer(&r);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "QEMU has %s open as %s, and it is %s",
                    image->file, image->format, r->format);
        return NULL;
}

static gboolean refuse(const struct vm_disk *d, const char *file, const char *other, GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "the history of the disk %s is not merged: QEMU has %s open where the catalogue knows "
                    "%s. Somebody else has changed the chain; nothing was touched",
                    d->device, file ? file : "nothing", other ? other : "nothing");
        return FALSE;
}

/* What is below the lower one is what the catalogue says. */
static gboolean stands_right(Catalogue *c, const struct vm_disk *d, const LayerRecord *upper,
                             const LayerRecord *lower, GError **error)
{
        const struct vm_image *below = d->below->len > 2 ? d->below->pdata[2] : NULL;
        g_autoptr(LayerRecord) on = NULL;

        if (g_strcmp0(upper->file_on, lower->id) != 0)
                return refuse(d, lower->file, upper->file_on, error);
        if (!lower->file_on)
                return below ? refuse(d, below->file, NULL, error) : TRUE;
        on = catalogue_layer_get(c, lower->file_on, error);
        if (!on)
                return FALSE;
        return below && below->file && g_strcmp0(below->file, on->file) == 0
                       ? TRUE
                       : refuse(d, below ? below->file : NULL, on->file, error);
}

static MergeRecord *row_of(const char *vm, const struct vm_disk *d, const LayerRecord *upper,
                           const LayerRecord *lower, const char *id, GError **error)
{
        const struct vm_image *below = d->below->len > 2 ? d->below->pdata[2] : NULL;
        g_autofree char *dir = g_path_get_dirname(d->file), *name = g_path_get_basename(d->file);
        g_autofree char *base = layer_name_base(name), *file = NULL;
        g_autoptr(MergeRecord) r = g_new0(MergeRecord, 1);

        file = layer_name_new(base ? base : name, id, upper->disk, error);
        if (!file)
                return NULL;
        r->id = layer_name_id(file);
        r->vm = g_strdup(vm);
        r->device = g_strdup(d->device);
        r->path = g_build_filename(dir, base ? base : name, NULL);
        r->top = g_strdup(d->file);
        r->upper = g_strdup(upper->id);
        r->upper_file = g_strdup(upper->file);
        r->lower = g_strdup(lower->id);
        r->lower_file = g_strdup(lower->file);
        r->file = g_build_filename(dir, file, NULL);
        r->below = below ? g_strdup(below->file) : NULL;
        r->below_format = below ? g_strdup(below->format) : NULL;
        return g_steal_pointer(&r);
}

/* The files of both go when they are one. Of a branch files would stay, and the new one be one more. */
static gboolean is_worth_it(Catalogue *c, const LayerRecord *upper, const LayerRecord *lower)
{
        return upper->uploaded_us && lower->uploaded_us && !catalogue_merge_is_kept(c, upper->id, lower->id);
}

static MergeRecord *choose(Catalogue *c, const char *vm, const struct vm_disk *d, MergeWhich which,
                           const char *id, GError **error)
{
        g_autoptr(LayerRecord) upper = NULL, lower = NULL;
        g_autoptr(GError) why = NULL;

        upper = layer_at(c, vm, d, 0, &why);
        lower = upper ? layer_at(c, vm, d, 1, &why) : NULL;
        if (why) {
                g_propagate_error(error, g_steal_pointer(&why));
                return NULL;
        }
        if (!lower || !stands_right(c, d, upper, lower, error) ||
            (which == MERGE_STORED && !is_worth_it(c, upper, lower)))
                return NULL;
        return row_of(vm, d, upper, lower, id, error);
}

MergeRecord *merge_choice_make(Catalogue *c, const char *vm, const GPtrArray *disks, MergeWhich which,
                               const char *id, const struct vm_disk **ret_disk, GError **error)
{
        for (guint i = 0; i < disks->len; i++) {
                const struct vm_disk *d = disks->pdata[i];
                g_autoptr(GError) why = NULL;
                MergeRecord *r;

                if (!d->writable || d->removable || !d->file || g_strcmp0(d->format, "qcow2") != 0 ||
                    (which == MERGE_FULL && d->below->len + 2 <= CHAIN_FILES_MAX))
                        continue;
                r = choose(c, vm, d, which, id, &why);
                if (why) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return NULL;
                }
                if (r) {
                        *ret_disk = d;
                        return r;
                }
        }
        return NULL;
}

static gboolean is_due(Catalogue *c, const char *vm, const char *path)
{
        struct snapshot_top top;
        g_autofree char *id = NULL;
        g_autoptr(LayerRecord) upper = NULL, lower = NULL;

        if (!catalogue_snapshot_top(c, vm, path, &top, NULL))
                return FALSE;
        id = top.on ? g_strdup(top.on) : layer_name_id(top.layer);
        snapshot_top_clear(&top);
        upper = catalogue_layer_get(c, id, NULL);
        lower = upper && upper->file && upper->file_on ? catalogue_layer_get(c, upper->file_on, NULL) : NULL;
        return lower && g_strcmp0(lower->vm, vm) == 0 && lower->file && is_worth_it(c, upper, lower);
}

gboolean merge_choice_is_due(Catalogue *c, const SnapshotRecord *s)
{
        for (guint i = 0; i < s->disks->len; i++)
                if (is_due(c, s->vm, ((const struct snapshot_disk *)s->disks->pdata[i])->path))
                        return TRUE;
        return FALSE;
}
