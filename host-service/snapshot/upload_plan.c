/* host-service/snapshot/upload_plan.c - which layers a snapshot's upload brings into the store. */
#include "host-service/snapshot/upload_plan.h"

#include "common/error.h"
#include "host-service/snapshot/layer_name.h"

static void step_free(gpointer data)
{
        struct upload_step *s = data;

        g_free(s->layer);
        g_clear_pointer(&s->line, g_ptr_array_unref);
        file_chain_free(s->files);
        file_chain_free(s->parent);
        g_clear_pointer(&s->folds, g_ptr_array_unref);
        g_free(s);
}

static struct upload_step *add_step(GPtrArray *plan, GPtrArray *line, const LayerRecord *r, FileChain *files)
{
        struct upload_step *s = g_new0(struct upload_step, 1);

        s->layer = g_strdup(r->id);
        s->files = files;
        s->line = g_ptr_array_ref(line);
        s->folds = g_ptr_array_new_with_free_func(g_free);
        s->size_bytes =
                layer_record_is_base(r) ? 0 : r->size_bytes; /* an overlay may be larger than its base */
        g_ptr_array_add(plan, s);
        return s;
}

static gboolean has(const GPtrArray *plan, const char *layer)
{
        for (guint i = 0; i < plan->len; i++)
                if (g_str_equal(((const struct upload_step *)plan->pdata[i])->layer, layer))
                        return TRUE;
        return FALSE;
}

static const LayerRecord *base_of(const GPtrArray *line)
{
        const LayerRecord *last = line->pdata[line->len - 1];

        return layer_record_is_base(last) ? last : NULL;
}

static gboolean plan_base(GPtrArray *plan, GPtrArray *line, GError **error)
{
        const LayerRecord *base = base_of(line);
        g_autoptr(FileChain) files = NULL;

        if (!base || base->uploaded_us || has(plan, base->id))
                return TRUE;
        files = file_chain_new();
        if (!layer_line_add_base(files, base, error))
                return FALSE;
        add_step(plan, line, base, g_steal_pointer(&files));
        return TRUE;
}

static gboolean plan_layer(GPtrArray *plan, GPtrArray *line, GError **error)
{
        const LayerRecord *r = line->pdata[0];
        guint known = layer_line_uploaded(line, 1);
        struct upload_step *s;

        if (r->uploaded_us)
                return TRUE;
        if (r->folded_into && !r->file) { /* else it can be there by itself, too */
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                        "layer %s is in the store as a part of layer %s: its own state cannot be uploaded "
                        "any more",
                        r->id, r->folded_into);
                return FALSE;
        }
        if (known == line->len && base_of(line)) /* it will be there by then */
                known = line->len - 1;
        FileChain *files = layer_line_files(line, 0, known, error);
        if (!files)
                return FALSE;
        s = add_step(plan, line, r, files);
        for (guint i = 1; i < known; i++)
                g_ptr_array_add(s->folds, g_strdup(((const LayerRecord *)line->pdata[i])->id));
        if (known < line->len)
                s->parent = layer_line_files(line, known, line->len, NULL);
        return TRUE;
}

GPtrArray *upload_plan_make(Catalogue *c, const SnapshotRecord *s, GError **error)
{
        g_autoptr(GPtrArray) plan = g_ptr_array_new_with_free_func(step_free);

        for (guint i = 0; i < s->disks->len; i++) {
                const struct snapshot_disk *d = s->disks->pdata[i];
                g_autofree char *id = layer_name_id(d->layer);
                g_autoptr(GPtrArray) line = catalogue_layer_line(c, id, error);

                if (!line || !plan_base(plan, line, error) || !plan_layer(plan, line, error))
                        return NULL;
        }
        return g_steal_pointer(&plan);
}

GPtrArray *upload_plan_layers(Catalogue *c, const SnapshotRecord *s, GError **error)
{
        g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);

        for (guint i = 0; i < s->disks->len; i++) {
                g_autofree char *id =
                        layer_name_id(((const struct snapshot_disk *)s->disks->pdata[i])->layer);
                g_autoptr(GPtrArray) line = catalogue_layer_line(c, id, error);

                if (!line)
                        return NULL;
                layer_line_add_ids(line, ids);
        }
        return g_steal_pointer(&ids);
}
