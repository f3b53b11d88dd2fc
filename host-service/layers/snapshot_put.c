/* host-service/layers/snapshot_put.c - manifests of snapshots into the store, and out of it. */
#include "common/error.h"
#include "common/fault.h"
#include "host-service/layers/layer_map.h"
#include "host-service/layers/snapshot_manifest.h"
#include "host-service/store/chunk_push.h"

static gboolean find_layer(struct chunk_push *p, const char *id, GCancellable *cancellable, GError **error)
{
        g_autofree char *key = layer_key(id);
        gboolean there;

        if (!chunk_push_find(p, key, &there, cancellable, error))
                return FALSE;
        if (!there)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "%s: %s is not there: the layer has to be uploaded again", p->objects->name, key);
        return there;
}

/* All are there, and young. */
static gboolean find_layers(struct chunk_push *p, const SnapshotManifest *m, GCancellable *cancellable,
                            GError **error)
{
        for (guint i = 0; i < m->disks->len; i++) {
                const GArray *layers = ((const struct manifest_disk *)m->disks->pdata[i])->layers;

                for (guint k = 0; k < layers->len; k++)
                        if (!find_layer(p, g_array_index(layers, struct manifest_layer, k).id, cancellable,
                                        error))
                                return FALSE;
        }
        return TRUE;
}

static gboolean put_and_compare(ObjectStore *o, const char *key, GBytes *ours, GCancellable *cancellable,
                                GError **error)
{
        g_autoptr(GBytes) there = NULL;

        fault_point("snapshot-manifest");
        if (!o->ops->put(o, key, ours, cancellable, error))
                return FALSE;
        there = o->ops->get(o, key, MANIFEST_MAX_BYTES, cancellable, error);
        if (!there)
                return FALSE;
        if (g_bytes_equal(there, ours))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "%s: %s: what was put does not come back as it was", o->name, key);
        return FALSE;
}

gboolean snapshot_manifest_put(ObjectStore *o, const SnapshotManifest *m, GCancellable *cancellable,
                               GError **error)
{
        g_autofree char *key = snapshot_key(m->vm, m->id);
        g_autoptr(GBytes) ours = snapshot_manifest_encode(m, error);
        struct chunk_push p = {.objects = o};

        return ours && chunk_push_begin(&p, cancellable, error) && find_layers(&p, m, cancellable, error) &&
               put_and_compare(o, key, ours, cancellable, error) && find_layers(&p, m, cancellable, error);
}

SnapshotManifest *snapshot_manifest_get(ObjectStore *o, const char *vm, const char *id,
                                        GCancellable *cancellable, GError **error)
{
        g_autofree char *key = snapshot_key(vm, id), *why = NULL;
        g_autoptr(GBytes) there = o->ops->get(o, key, MANIFEST_MAX_BYTES, cancellable, error);
        g_autoptr(SnapshotManifest) m = NULL;
        gsize len;

        if (!there)
                return NULL;
        const char *text = g_bytes_get_data(there, &len);
        why = snapshot_manifest_parse(text, len, &m);
        if (!why && g_str_equal(m->vm, vm) && g_str_equal(m->id, id))
                return g_steal_pointer(&m);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "%s: %s: %s", o->name, key,
                    why ? why : "it is the manifest of another snapshot");
        return NULL;
}
