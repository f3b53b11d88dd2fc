/* host-service/layers/layer_chain.c - laying maps over each other. */
#include "host-service/layers/layer_chain.h"

#include "host-service/layers/layer_build.h"

/* What lies below, read from its beginning to its end. */
struct below {
        const GArray *extents; /* of struct seen_extent */
        guint next;
        uint64_t size; /* behind it are zeros */
};

static void append(GArray *seen, struct seen_extent e, uint64_t from, uint64_t to)
{
        if (e.chunk != LAYER_ZEROS)
                e.chunk_offset += (uint32_t)(from - e.offset);
        e.offset = from;
        e.len = to - from;
        if (e.len > 0)
                g_array_append_val(seen, e);
}

/* The range from @from to @to shows what is below. Ranges come in order. */
static void show_below(GArray *seen, struct below *b, uint64_t from, uint64_t to)
{
        const struct seen_extent zeros = {.offset = from, .chunk = LAYER_ZEROS};
        uint64_t end = MIN(to, b->size);

        for (; b->next < b->extents->len; b->next++) {
                const struct seen_extent *e = &g_array_index(b->extents, struct seen_extent, b->next);

                if (e->offset >= end)
                        break;
                if (e->offset + e->len > from)
                        append(seen, *e, MAX(from, e->offset), MIN(end, e->offset + e->len));
                if (e->offset + e->len > end)
                        break; /* the rest of it may be seen further on */
        }
        if (to > b->size)
                append(seen, zeros, MAX(from, b->size), to);
}

static GArray *seen_new(guint room)
{
        return g_array_sized_new(FALSE, FALSE, sizeof(struct seen_extent), room);
}

/* @map, the layer @layer, over what is below. */
static GArray *over(const LayerMap *map, guint layer, struct below *b)
{
        GArray *seen = seen_new(map->extents->len + b->extents->len);
        uint64_t at = 0;

        for (guint i = 0; i < map->extents->len; i++) {
                const struct layer_extent *e = &g_array_index(map->extents, struct layer_extent, i);
                const struct seen_extent own = {e->offset, e->len, layer, e->chunk, e->chunk_offset};

                show_below(seen, b, at, e->offset);
                g_array_append_val(seen, own);
                at = e->offset + e->len;
        }
        show_below(seen, b, at, map->size_bytes);
        return seen;
}

GArray *layer_map_overlay(const LayerMap *const *newest_first, guint n)
{
        g_autoptr(GArray) nothing = seen_new(0);
        struct below b = {.extents = nothing, .size = UINT64_MAX};
        GArray *seen = NULL;

        for (guint i = n; i-- > 0;) {
                GArray *more = over(newest_first[i], i, &b);

                g_clear_pointer(&seen, g_array_unref);
                seen = more;
                b = (struct below){.extents = seen, .size = newest_first[i]->size_bytes};
        }
        return seen;
}

LayerMap *layer_map_squash(const LayerMap *parent, const LayerMap *child, GError **error)
{
        const LayerMap *maps[] = {child, parent};
        g_autoptr(GArray) seen = layer_map_overlay(maps, 2);
        g_autoptr(LayerBuild) b = layer_build_new(child->size_bytes);

        for (guint i = 0; i < seen->len; i++) {
                const struct seen_extent *e = &g_array_index(seen, struct seen_extent, i);

                if (e->chunk == LAYER_ZEROS)
                        layer_build_zeros(b, e->offset, e->len);
                else
                        layer_build_data(b, e->offset, e->len,
                                         &g_array_index(maps[e->layer]->chunks, struct layer_chunk, e->chunk),
                                         e->chunk_offset);
        }
        return layer_build_end(b, error);
}
