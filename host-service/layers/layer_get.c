/* host-service/layers/layer_get.c - fetching maps and chunks, and writing what they show. */
#include "host-service/layers/layer_get.h"

#include <string.h>

#include "common/error.h"
#include "common/fault.h"
#include "host-service/store/chunk_file.h"

static void map_free(gpointer map)
{
        layer_map_free(map);
}

void layer_get_init(struct layer_get *g, ObjectStore *objects, struct layer_writer *writer, guint layers,
                    const struct layer_restore_options *options)
{
        *g = (struct layer_get){.objects = objects, .writer = writer, .options = options};
        g->maps = g_ptr_array_new_with_free_func(map_free);
        g_ptr_array_set_size(g->maps, (gint)layers);
        g_mutex_init(&g->lock);
}

void layer_get_clear(struct layer_get *g)
{
        g_clear_pointer(&g->maps, g_ptr_array_unref);
        g_clear_pointer(&g->seen, g_array_unref);
        g_clear_pointer(&g->first, g_array_unref);
        g_clear_pointer(&g->same, g_array_unref);
        g_clear_pointer(&g->zeros, g_array_unref);
        g_mutex_clear(&g->lock);
}

LayerMap *layer_map_fetch(ObjectStore *o, const struct layer_ref *ref, GCancellable *cancellable,
                          GError **error)
{
        g_autofree char *key = layer_key(ref->id);
        g_autoptr(GBytes) stored = o->ops->get(o, key, OBJECT_MAX_BYTES, cancellable, error);
        g_autoptr(LayerMap) map = NULL;
        uint8_t digest[DIGEST_SIZE];

        if (stored)
                map = layer_map_unpack(stored, digest, error);
        if (!map) {
                g_prefix_error(error, "%s: %s: ", o->name, key);
                return NULL;
        }
        if (!ref->map_digest || memcmp(digest, ref->map_digest, sizeof digest) == 0)
                return g_steal_pointer(&map);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "%s: %s is not the map that was put there for this layer", o->name, key);
        return NULL;
}

gboolean layer_get_map(struct layer_get *g, guint index, const struct layer_ref *ref,
                       GCancellable *cancellable, GError **error)
{
        g->maps->pdata[index] = layer_map_fetch(g->objects, ref, cancellable, error);
        return g->maps->pdata[index] != NULL;
}

static const struct seen_extent *seen(const struct layer_get *g, guint i)
{
        return &g_array_index(g->seen, struct seen_extent, i);
}

static const struct layer_chunk *chunk_of(const struct layer_get *g, const struct seen_extent *e)
{
        const LayerMap *m = g->maps->pdata[e->layer];

        return &g_array_index(m->chunks, struct layer_chunk, e->chunk);
}

/* Two layers may have the same chunk, and one of them at several places. */
static void plan_extent(struct layer_get *g, guint i, GHashTable *last)
{
        const struct seen_extent *e = seen(g, i);
        gpointer before;
        GBytes *key;

        if (e->chunk == LAYER_ZEROS) {
                g_array_append_val(g->zeros, i);
                g->zero_bytes += e->len;
                return;
        }
        g->data_bytes += e->len;
        key = g_bytes_new_static(chunk_of(g, e), sizeof(struct layer_chunk));
        if (g_hash_table_lookup_extended(last, key, NULL, &before))
                g_array_index(g->same, guint, GPOINTER_TO_UINT(before)) = i;
        else
                g_array_append_val(g->first, i);
        g_hash_table_replace(last, key, GUINT_TO_POINTER(i));
}

gboolean layer_get_plan(struct layer_get *g, GError **error)
{
        const LayerMap *newest = g->maps->pdata[0];
        g_autoptr(GHashTable) last =
                g_hash_table_new_full(g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, NULL);

        if (newest->size_bytes != g->writer->size_bytes) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "the layer is of a disk of %" G_GUINT64_FORMAT
                            " bytes, and not of %" G_GUINT64_FORMAT,
                            newest->size_bytes, g->writer->size_bytes);
                return FALSE;
        }
        g->seen = layer_map_overlay((const LayerMap *const *)g->maps->pdata, g->maps->len);
        g->first = g_array_new(FALSE, FALSE, sizeof(guint));
        g->zeros = g_array_new(FALSE, FALSE, sizeof(guint));
        g->same = g_array_sized_new(FALSE, TRUE, sizeof(guint), g->seen->len);
        g_array_set_size(g->same, g->seen->len);
        for (guint i = 0; i < g->seen->len; i++)
                plan_extent(g, i, last);
        return TRUE;
}

guint layer_get_steps(const struct layer_get *g)
{
        return g->zeros->len + g->first->len;
}

static gboolean is_chunk(GBytes *bytes, const struct layer_chunk *c)
{
        g_autoptr(Hasher) h = hasher_new();
        uint8_t id[DIGEST_SIZE];
        gsize len;
        const void *data = g_bytes_get_data(bytes, &len);

        hasher_sha256(h, data, len, id);
        return len == c->len && memcmp(id, c->id, sizeof id) == 0;
}

/* From near, or from the store. */
static GBytes *get_chunk(struct layer_get *g, const struct layer_chunk *c, gsize *ret_fetched,
                         GCancellable *cancellable, GError **error)
{
        ObjectStore *o = g->objects;
        g_autofree char *key = chunk_key(c->id);
        g_autoptr(GBytes) near = NULL, stored = NULL;
        GBytes *chunk;

        *ret_fetched = 0;
        if (g->options->find_chunk)
                near = g->options->find_chunk(g->options->cache, c);
        if (near && is_chunk(near, c)) {
                __atomic_add_fetch(&g->found, 1, __ATOMIC_RELAXED);
                return g_steal_pointer(&near);
        }
        stored = o->ops->get(o, key, OBJECT_MAX_BYTES, cancellable, error);
        chunk = stored ? chunk_unpack(stored, c->len, c->id, error) : NULL;
        if (!chunk) {
                g_prefix_error(error, "%s: %s: ", o->name, key);
                return NULL;
        }
        *ret_fetched = g_bytes_get_size(stored);
        __atomic_add_fetch(&g->fetched_bytes, (gint64)*ret_fetched, __ATOMIC_RELAXED);
        return chunk;
}

static gboolean write_zeros(struct layer_get *g, const struct seen_extent *e, GCancellable *cancellable,
                            GError **error)
{
        gboolean ok;

        g_mutex_lock(&g->lock);
        ok = g->writer->ops->zero(g->writer, e->offset, e->len, cancellable, error);
        g_mutex_unlock(&g->lock);
        return ok;
}

/* Wherever it is seen. */
static gboolean write_chunk(struct layer_get *g, guint extent, GBytes *chunk, guint64 *ret_written,
                            GCancellable *cancellable, GError **error)
{
        const uint8_t *data = g_bytes_get_data(chunk, NULL);
        guint64 written = 0;
        gboolean ok = TRUE;

        g_mutex_lock(&g->lock);
        do {
                const struct seen_extent *e = seen(g, extent);

                ok = g->writer->ops->write(g->writer, e->offset, data + e->chunk_offset, (size_t)e->len,
                                           cancellable, error);
                written += e->len;
                extent = g_array_index(g->same, guint, extent);
        } while (ok && extent != 0);
        g_mutex_unlock(&g->lock);
        *ret_written = written;
        return ok;
}

gboolean layer_get_write(struct layer_get *g, guint index, gsize *ret_fetched, guint64 *ret_written,
                         GCancellable *cancellable, GError **error)
{
        g_autoptr(GBytes) chunk = NULL;
        guint extent;

        *ret_fetched = 0;
        *ret_written = 0;
        if (index < g->zeros->len)
                return write_zeros(g, seen(g, g_array_index(g->zeros, guint, index)), cancellable, error);
        extent = g_array_index(g->first, guint, index - g->zeros->len);
        chunk = get_chunk(g, chunk_of(g, seen(g, extent)), ret_fetched, cancellable, error);
        if (!chunk || !write_chunk(g, extent, chunk, ret_written, cancellable, error))
                return FALSE;
        fault_point("layer-chunk-got");
        return TRUE;
}

GBytes *layer_find_in_store(gpointer cache, const struct layer_chunk *chunk)
{
        ObjectStore *near = cache;
        g_autofree char *key = chunk_key(chunk->id);
        g_autoptr(GBytes) stored = near->ops->get(near, key, OBJECT_MAX_BYTES, NULL, NULL);

        return stored ? chunk_unpack(stored, chunk->len, chunk->id, NULL) : NULL;
}
