/* host-service/snapshot/restore_point.c - snapshots and the lines of their disks. */
#include "host-service/snapshot/restore_point.h"

#include "common/error.h"
#include "host-service/snapshot/layer_name.h"

#define WHY_MAX 250 /* characters; a manifest takes 1000 bytes */

void restore_point_free(RestorePoint *p)
{
        if (!p)
                return;
        snapshot_record_free(p->s);
        g_ptr_array_unref(p->lines);
        g_hash_table_unref(p->rows);
        g_free(p);
}

static GHashTable *rows_new(void)
{
        return g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)layer_record_free);
}

static void add_row(GHashTable *rows, LayerRecord *r)
{
        g_hash_table_replace(rows, r->id, r);
}

/* The row is read when it is needed first. */
static LayerRecord *row(Catalogue *c, GHashTable *rows, const char *id, GError **error)
{
        LayerRecord *r = g_hash_table_lookup(rows, id);

        if (!r && (r = catalogue_layer_get(c, id, error)))
                add_row(rows, r);
        return r;
}

static GPtrArray *line_of(Catalogue *c, GHashTable *rows, const char *id, GError **error)
{
        g_autoptr(GPtrArray) line = g_ptr_array_new();

        for (const char *next = id; next;) {
                LayerRecord *r = row(c, rows, next, error);

                if (r && line->len >= LAYER_LINE_MAX)
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                    "the line of layer %s never ends", id);
                if (!r || line->len >= LAYER_LINE_MAX)
                        return NULL;
                g_ptr_array_add(line, r);
                next = r->parent;
        }
        return g_steal_pointer(&line);
}

static RestorePoint *load(Catalogue *c, SnapshotRecord *s, GHashTable *rows, GError **error)
{
        g_autoptr(RestorePoint) p = g_new0(RestorePoint, 1);

        p->s = s;
        p->lines = g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);
        p->rows = g_hash_table_ref(rows);
        for (guint i = 0; i < s->disks->len; i++) {
                const struct snapshot_disk *d = s->disks->pdata[i];
                g_autofree char *id = layer_name_id(d->layer);
                GPtrArray *line = line_of(c, rows, id ? id : d->layer, error);

                if (!line) {
                        g_prefix_error(error, "snapshot %s of %s: ", s->name, s->vm);
                        return NULL;
                }
                g_ptr_array_add(p->lines, line);
        }
        return g_steal_pointer(&p);
}

RestorePoint *restore_point_load(Catalogue *c, SnapshotRecord *s, GError **error)
{
        g_autoptr(GHashTable) rows = rows_new();

        return load(c, s, rows, error);
}

/* All of them at once: a question for each layer of each line would be one too many. */
static GHashTable *rows_of_vm(Catalogue *c, const char *vm, GError **error)
{
        g_autoptr(GPtrArray) all = catalogue_layer_list(c, vm, error);
        GHashTable *rows;

        if (!all)
                return NULL;
        rows = rows_new();
        for (guint i = 0; i < all->len; i++)
                add_row(rows, all->pdata[i]);
        g_ptr_array_set_free_func(all, NULL); /* they are the table's */
        return rows;
}

static gboolean load_all(Catalogue *c, GPtrArray *snapshots, GHashTable *vms, GPtrArray *points,
                         GError **error)
{
        for (guint i = 0; i < snapshots->len; i++) {
                const SnapshotRecord *s = snapshots->pdata[i];
                GHashTable *rows = g_hash_table_lookup(vms, s->vm);
                RestorePoint *p;

                if (s->state != SNAPSHOT_TAKEN)
                        continue;
                if (!rows && !(rows = rows_of_vm(c, s->vm, error)))
                        return FALSE;
                g_hash_table_replace(vms, g_strdup(s->vm), g_hash_table_ref(rows));
                p = load(c, g_steal_pointer(&snapshots->pdata[i]), rows, error);
                if (!p)
                        return FALSE;
                g_ptr_array_add(points, p);
        }
        return TRUE;
}

GPtrArray *restore_points_load(Catalogue *c, const char *vm, GError **error)
{
        g_autoptr(GPtrArray) snapshots = catalogue_snapshot_list(c, vm, G_MAXUINT, error);
        g_autoptr(GPtrArray) points = g_ptr_array_new_with_free_func((GDestroyNotify)restore_point_free);
        g_autoptr(GHashTable) vms =
                g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_hash_table_unref);

        return snapshots && load_all(c, snapshots, vms, points, error) ? g_steal_pointer(&points) : NULL;
}

/* ---- the manifest ---- */

/* Folded into a newer one of the line, that is there. */
static gboolean is_part(const GPtrArray *line, guint k)
{
        const LayerRecord *r = line->pdata[k];

        for (guint i = 0; r->folded_into && i < k; i++) {
                const LayerRecord *into = line->pdata[i];

                if (into->uploaded_us && g_str_equal(into->id, r->folded_into))
                        return TRUE;
        }
        return FALSE;
}

static gboolean describe_disk(SnapshotManifest *m, const struct snapshot_disk *d, const GPtrArray *line,
                              GError **error)
{
        struct manifest_disk *to =
                snapshot_manifest_add_disk(m, d->number, d->device, d->path, d->size_bytes);

        for (guint i = line->len; i-- > 0;) {
                const LayerRecord *r = line->pdata[i];

                if (r->uploaded_us)
                        manifest_disk_add_layer(to, r->id, r->map_digest);
                else if (!is_part(line, i)) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                                    "layer %s, which the snapshot stands on, is not in the store", r->id);
                        return FALSE;
                }
        }
        return TRUE;
}

SnapshotManifest *restore_point_manifest(const RestorePoint *p, GError **error)
{
        const SnapshotRecord *s = p->s;
        g_autoptr(SnapshotManifest) m = snapshot_manifest_new();

        m->vm = g_strdup(s->vm);
        m->id = g_strdup(s->id);
        m->name = g_strdup(s->name);
        m->taken_us = s->taken_us;
        m->grade = s->grade;
        if (s->why)
                m->why = g_utf8_substring(s->why, 0, MIN(g_utf8_strlen(s->why, -1), WHY_MAX));
        m->frozen_us = s->frozen_us;
        m->hooks = s->hooks;
        for (guint i = 0; i < s->disks->len; i++)
                if (!describe_disk(m, s->disks->pdata[i], p->lines->pdata[i], error))
                        return NULL;
        return g_steal_pointer(&m);
}

void restore_point_add_ids(const RestorePoint *p, GPtrArray *ids)
{
        for (guint i = 0; i < p->lines->len; i++)
                layer_line_add_ids(p->lines->pdata[i], ids);
}
