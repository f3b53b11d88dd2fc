/* host-service/layers/layer_build.c - a map that grows. */
#include "host-service/layers/layer_build.h"

#include <string.h>

#include "common/error.h"

struct LayerBuild {
        LayerMap *map;
        GHashTable *indices; /* struct layer_chunk -> index */
        gboolean full;
};

static guint chunk_hash(gconstpointer p)
{
        guint h;

        memcpy(&h, p, sizeof h);
        return h;
}

static gboolean chunk_equal(gconstpointer a, gconstpointer b)
{
        return memcmp(a, b, sizeof(struct layer_chunk)) == 0;
}

LayerBuild *layer_build_new(uint64_t size_bytes)
{
        LayerBuild *b = g_new0(LayerBuild, 1);

        b->map = layer_map_new(size_bytes);
        b->indices = g_hash_table_new_full(chunk_hash, chunk_equal, g_free, NULL);
        return b;
}

void layer_build_free(LayerBuild *b)
{
        if (!b)
                return;
        layer_map_free(b->map);
        g_hash_table_unref(b->indices);
        g_free(b);
}

static void add_extent(LayerBuild *b, const struct layer_extent *e)
{
        GArray *extents = b->map->extents;
        struct layer_extent *last =
                extents->len > 0 ? &g_array_index(extents, struct layer_extent, extents->len - 1) : NULL;

        if (last && last->offset + last->len == e->offset && last->chunk == e->chunk &&
            (e->chunk == LAYER_ZEROS || last->chunk_offset + last->len == e->chunk_offset))
                last->len += e->len;
        else if (extents->len < LAYER_EXTENTS_MAX)
                g_array_append_val(extents, *e);
        else
                b->full = TRUE;
}

/* LAYER_ZEROS: there is no room for another one. */
static uint32_t index_of(LayerBuild *b, const struct layer_chunk *chunk)
{
        gpointer index;

        if (g_hash_table_lookup_extended(b->indices, chunk, NULL, &index))
                return GPOINTER_TO_UINT(index);
        if (b->map->chunks->len == LAYER_CHUNKS_MAX)
                return LAYER_ZEROS;
        g_array_append_val(b->map->chunks, *chunk);
        g_hash_table_insert(b->indices, g_memdup2(chunk, sizeof *chunk),
                            GUINT_TO_POINTER(b->map->chunks->len - 1));
        return b->map->chunks->len - 1;
}

void layer_build_data(LayerBuild *b, uint64_t offset, uint64_t len, const struct layer_chunk *chunk,
                      uint32_t chunk_offset)
{
        struct layer_extent e = {offset, len, 0, chunk_offset};

        if (b->full || len == 0)
                return;
        e.chunk = index_of(b, chunk);
        if (e.chunk == LAYER_ZEROS)
                b->full = TRUE;
        else
                add_extent(b, &e);
}

void layer_build_zeros(LayerBuild *b, uint64_t offset, uint64_t len)
{
        struct layer_extent e = {offset, len, LAYER_ZEROS, 0};

        if (!b->full && len > 0)
                add_extent(b, &e);
}

gboolean layer_build_is_full(const LayerBuild *b, GError **error)
{
        if (b->full)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                            "the layer has more than a map can hold, which is %u chunks (some %u GB that are "
                            "neither zeros nor its parent's) and %u extents: it stays in its file",
                            LAYER_CHUNKS_MAX, LAYER_CHUNKS_MAX / 1000 * 153 / 1000, LAYER_EXTENTS_MAX);
        return b->full;
}

LayerMap *layer_build_end(LayerBuild *b, GError **error)
{
        return layer_build_is_full(b, error) ? NULL : g_steal_pointer(&b->map);
}
