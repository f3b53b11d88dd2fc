/* host-service/snapshot/rollback_plan.c - what is on record of a rollback before anything is done. */
#include <string.h>

#include "host-service/snapshot/disk_choice.h"
#include "host-service/snapshot/layer_image.h"
#include "host-service/snapshot/rollback_private.h"

gpointer rollback_measure(gpointer data, GCancellable *cancellable, GError **error)
{
        struct rollback *t = data;

        for (guint i = 0; i < t->to->disks->len; i++) {
                const struct snapshot_disk *d = t->to->disks->pdata[i];

                /* The guest may have got a larger disk since. */
                t->sizes[i] = layer_image_size(d->path, d->size_bytes);
        }
        return t;
}

static gboolean add_layer(struct rollback *t, const struct snapshot_top *top, const struct snapshot_disk *d,
                          GError **error)
{
        g_autofree char *dir = g_path_get_dirname(d->path), *id = layer_name_id(d->layer);
        g_autofree char *file = g_build_filename(dir, d->layer, NULL);
        g_autofree char *known = top->on ? g_strdup(top->on) : layer_name_id(top->layer);
        char *on = *known ? known : NULL;
        LayerRecord r = {.id = id,
                         .vm = t->vm,
                         .disk = d->number,
                         .parent = on,
                         .file = file,
                         .file_on = on,
                         .format = (char *)"qcow2",
                         .size_bytes = d->size_bytes};

        return catalogue_layer_add(t->owner->catalogue, &r, error);
}

/* The id of the layer that the new top stands on: the restore point's, or a copy, if the chain would become
 * too long. */
static char *stands_on(struct rollback *t, const struct snapshot_disk *to, guint number, GError **error)
{
        g_autofree char *id = layer_name_id(to->layer);
        g_autoptr(GPtrArray) line = catalogue_layer_line(t->owner->catalogue, id, error);
        g_autoptr(FileChain) here = line ? layer_line_files(line, 0, line->len, NULL) : NULL;

        if (!line)
                return NULL;
        if (here && (here->images->len + 1 > CHAIN_FILES_MAX || !layer_line_base_is_same(line, NULL)))
                return g_strdup_printf("%s-%u", t->job.id, number + RESTORED);
        return g_steal_pointer(&id);
}

static gboolean plan_disk(struct rollback *t, const struct snapshot_disk *to, guint64 size, GError **error)
{
        Catalogue *c = t->owner->catalogue;
        g_autofree char *base = g_path_get_basename(to->path);
        struct snapshot_disk *d = snapshot_record_add_disk(t->before);
        struct snapshot_top top = {0};
        gboolean ok;

        d->device = g_strdup(to->device);
        d->path = g_strdup(to->path);
        d->format = g_strdup("qcow2");
        d->size_bytes = size;
        d->next_on = stands_on(t, to, d->number, error);
        d->next = !d->next_on ? NULL : layer_name_new(base, t->job.id, d->number, error);
        ok = d->next && catalogue_snapshot_top(c, t->vm, to->path, &top, error);
        d->layer = g_strdup(top.name);
        ok = ok && add_layer(t, &top, d, error);
        snapshot_top_clear(&top);
        return ok;
}

gboolean rollback_plan(struct rollback *t, GError **error)
{
        Catalogue *c = t->owner->catalogue;
        g_autoptr(GDateTime) now =
                g_date_time_new_from_unix_utc(host_wall_us(t->owner->env) / G_USEC_PER_SEC);
        g_autofree char *time = NULL;
        gboolean ok = TRUE;

        t->before = snapshot_record_new();
        t->before->id = g_strdup(t->job.id);
        t->before->vm = g_strdup(t->vm);
        time = g_date_time_format(now, "%Y%m%d-%H%M%S");
        t->before->name = g_strdup_printf("before-%s-%s", time, t->job.id + strlen(t->job.id) - 4);
        t->before->created_us = host_wall_us(t->owner->env);
        t->before->running = rollback_goes_on(t);
        t->before->why = g_strdup(t->status ? "the VM was stopped in the middle of what it did"
                                            : "the VM was off, and it is not known how its guest had ended");
        if (!catalogue_begin(c, error))
                return FALSE;
        for (guint i = 0; ok && i < t->to->disks->len; i++)
                ok = plan_disk(t, t->to->disks->pdata[i], t->sizes[i], error);
        ok = ok && catalogue_snapshot_add(c, t->before, error);
        return t->is_known = catalogue_end(c, ok, error);
}

gboolean rollback_open_ways(struct rollback *t, GError **error)
{
        t->ways = g_new0(struct way, t->to->disks->len + 1);
        t->held = g_ptr_array_new_with_free_func(g_free);
        for (guint i = 0; i < t->to->disks->len; i++) {
                struct way *w = &t->ways[i];
                g_autofree char *id = NULL;

                w->to = t->to->disks->pdata[i];
                w->before = t->before->disks->pdata[i];
                id = layer_name_id(w->to->layer);
                w->copy = g_strcmp0(id, w->before->next_on) != 0;
                w->line = catalogue_layer_line(t->owner->catalogue, id, error);
                if (!w->line) {
                        g_clear_pointer(&t->held, g_ptr_array_unref); /* none was taken yet */
                        return FALSE;
                }
                if (w->copy) {
                        g_autoptr(LayerRecord) copy =
                                catalogue_layer_get(t->owner->catalogue, w->before->next_on, NULL);

                        w->has_copy = copy != NULL; /* by an earlier moultd */
                        w->below = copy ? g_strdup(copy->file) : NULL;
                }
                layer_line_add_ids(w->line, t->held);
        }
        return TRUE;
}
