/* host-service/snapshot/verify_store.c - what the store has of restore points: manifests, maps, chunks. */
#include <string.h>

#include "common/error.h"
#include "host-service/layers/layer_get.h"
#include "host-service/snapshot/verify_private.h"
#include "host-service/store/chunk_index.h"
#include "host-service/store/chunk_look.h"

#define CLUSTER (UINT64_C(64) << 10) /* of the images that are made here */

gboolean verify_is_damage(const GError *error)
{
        return g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND) ||
               g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CORRUPT) ||
               g_error_matches(error, MOULT_ERROR, MOULT_ERROR_IO);
}

/* ---- manifests ---- */

static void judge_manifest(struct verify *v, struct verify_point *p, const SnapshotManifest *there,
                           const GError *why)
{
        if (why)
                verify_note(v,
                            g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND)
                                    ? FINDING_MANIFEST_MISSING
                                    : FINDING_SNAPSHOT_DAMAGED,
                            NULL, NULL, p, g_strdup_printf("its manifest: %s", why->message));
        else if (p->manifest && !snapshot_manifest_is_of(there, p->manifest))
                verify_note(v, FINDING_SNAPSHOT_DAMAGED, NULL, NULL, p,
                            g_strdup("its manifest names other layers than the catalogue of this host"));
}

gboolean verify_manifest_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct verify *v = user;
        struct verify_point *p = v->points->pdata[index];
        ObjectStore *o = v->owner->env->objects;
        g_autoptr(SnapshotManifest) there = NULL;
        g_autoptr(GError) why = NULL;

        if (!p->in_store)
                return TRUE;
        /* What is wrong may be the network's: it is looked at twice. */
        for (guint i = 0; i < 2 && !there; i++) {
                g_clear_error(&why);
                there = snapshot_manifest_get(o, p->p->s->vm, p->p->s->id, cancellable, &why);
                if (why && !verify_is_damage(why)) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return FALSE;
                }
        }
        judge_manifest(v, p, there, why);
        return TRUE;
}

/* ---- maps ---- */

static guint64 room_of(const LayerMap *m)
{
        guint64 bytes = 0;

        for (guint i = 0; i < m->extents->len; i++) {
                const struct layer_extent *e = &g_array_index(m->extents, struct layer_extent, i);

                if (e->chunk != LAYER_ZEROS)
                        bytes += (e->offset % CLUSTER + e->len + CLUSTER - 1) / CLUSTER * CLUSTER;
        }
        return bytes;
}

gboolean verify_map_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct verify *v = user;
        struct verify_layer *l = v->layers->pdata[index];
        const struct layer_ref ref = {l->r->id, l->r->map_digest};
        g_autoptr(LayerMap) map = NULL;
        g_autoptr(GError) why = NULL;

        for (guint i = 0; i < 2 && !map; i++) {
                g_clear_error(&why);
                map = layer_map_fetch(v->owner->env->objects, &ref, cancellable, &why);
                if (why && !verify_is_damage(why)) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return FALSE;
                }
        }
        if (map) {
                l->chunks = g_array_ref(map->chunks);
                l->room_bytes = room_of(map);
        } else {
                verify_note(v,
                            g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND) ? FINDING_LAYER_MISSING
                                                                                     : FINDING_LAYER_DAMAGED,
                            l->r->id, NULL, NULL, g_strdup(why->message));
        }
        return TRUE;
}

/* ---- chunks ---- */

static struct verify_chunk chunk_at(const struct verify_layer *l, guint i)
{
        const struct layer_chunk *c = &g_array_index(l->chunks, struct layer_chunk, i);
        struct verify_chunk key = {.len = c->len};

        memcpy(key.id, c->id, DIGEST_SIZE);
        return key;
}

void verify_collect_chunks(struct verify *v)
{
        for (guint k = 0; k < v->layers->len; k++) {
                const struct verify_layer *l = v->layers->pdata[k];

                for (guint i = 0; l->chunks && i < l->chunks->len; i++) {
                        struct verify_chunk key = chunk_at(l, i), *c;

                        if (g_hash_table_contains(v->chunk_index, &key))
                                continue;
                        c = g_memdup2(&key, sizeof key);
                        g_ptr_array_add(v->chunks, c);
                        g_hash_table_add(v->chunk_index, c);
                        v->total += c->len;
                }
        }
}

gboolean verify_chunk_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct verify *v = user;
        struct verify_chunk *c = v->chunks->pdata[index];
        g_autoptr(GError) why = NULL;

        if (!chunk_look(v->owner->env->objects, c->id, c->len, &why, cancellable, error))
                return FALSE;
        if (why) {
                c->missing = g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND);
                c->why = g_strdup(why->message);
        }
        __atomic_add_fetch(&v->bytes, (gint64)c->len, __ATOMIC_RELAXED);
        verify_count(v, c->len);
        return TRUE;
}

static void judge_layer(struct verify *v, const struct verify_layer *l)
{
        const struct verify_chunk *first = NULL;
        g_autofree char *key = NULL;
        guint n = 0;

        for (guint i = 0; l->chunks && i < l->chunks->len; i++) {
                struct verify_chunk wanted = chunk_at(l, i);
                const struct verify_chunk *c = g_hash_table_lookup(v->chunk_index, &wanted);

                if (!c->why)
                        continue;
                n++;
                first = first ? first : c;
        }
        if (!first)
                return;
        key = chunk_key(first->id);
        verify_note(v, first->missing ? FINDING_CHUNK_MISSING : FINDING_CHUNK_DAMAGED, l->r->id, NULL, NULL,
                    n == 1 ? g_strdup_printf("a chunk of layer %s, %s: %s", l->r->id, key, first->why)
                           : g_strdup_printf("%u chunks of layer %s; the first, %s: %s", n, l->r->id, key,
                                             first->why));
}

void verify_judge_chunks(struct verify *v)
{
        for (guint i = 0; i < v->layers->len; i++)
                judge_layer(v, v->layers->pdata[i]);
}
