/* host-service/layers/layer_cut.c - blocks that are left out, and the others as chunks. */
#include "host-service/layers/layer_cut.h"

#include <string.h>

#include "common/error.h"
#include "host-service/layers/layer_build.h"
#include "host-service/layers/layer_walk.h"
#include "host-service/store/chunk_cut.h"

#define LOOK   (CHUNK_CUT_MAX + CHUNK_CUT_BLOCK) /* what chunk_cut() wants to see */
#define WINDOW ((size_t)64 * CHUNK_CUT_BLOCK)    /* read at once */

/* A range that is not in the map yet, because its chunk has not ended. */
struct piece {
        uint64_t offset, len;
        gboolean zeros;
};

struct cutter {
        struct layer_reader *reader, *parent;
        LayerBuild *build;
        Hasher *hasher;
        uint8_t *pending; /* data, strung together; LOOK bytes */
        size_t have;
        GArray *pieces; /* of struct piece: of the data, and of zeros between them */
        uint8_t *window, *below;
        gint64 *progress;
};

static void cutter_init(struct cutter *c, struct layer_reader *r, struct layer_reader *parent,
                        gint64 *progress)
{
        *c = (struct cutter){.reader = r, .parent = parent, .progress = progress};
        c->build = layer_build_new(r->size_bytes);
        c->hasher = hasher_new();
        c->pending = g_malloc(LOOK);
        c->pieces = g_array_new(FALSE, FALSE, sizeof(struct piece));
        c->window = g_malloc(WINDOW);
        c->below = g_malloc(WINDOW);
}

static void cutter_clear(struct cutter *c)
{
        layer_build_free(c->build);
        hasher_free(c->hasher);
        g_free(c->pending);
        g_array_unref(c->pieces);
        g_free(c->window);
        g_free(c->below);
}

/* The first @len bytes of what is pending are a chunk: they, and the zeros between and right behind them, go
 * to the map. */
static void end_chunk(struct cutter *c, size_t len)
{
        struct layer_chunk chunk = {.len = (uint32_t)len};
        uint32_t at = 0;
        guint i = 0;

        hasher_sha256(c->hasher, c->pending, len, chunk.id);
        for (; i < c->pieces->len; i++) {
                struct piece *p = &g_array_index(c->pieces, struct piece, i);
                uint64_t n = MIN(p->len, len - at);

                if (p->zeros) {
                        layer_build_zeros(c->build, p->offset, p->len);
                        continue;
                }
                layer_build_data(c->build, p->offset, n, &chunk, at);
                at += (uint32_t)n;
                p->offset += n;
                p->len -= n;
                if (p->len > 0)
                        break; /* the next chunk has the rest */
        }
        g_array_remove_range(c->pieces, 0, i);
        c->have -= len;
        memmove(c->pending, c->pending + len, c->have);
}

static void end_all_chunks(struct cutter *c)
{
        while (c->have > 0)
                end_chunk(c, chunk_cut(c->hasher, c->pending, c->have));
}

static struct piece *last_piece(struct cutter *c)
{
        return c->pieces->len > 0 ? &g_array_index(c->pieces, struct piece, c->pieces->len - 1) : NULL;
}

static void add_piece(struct cutter *c, uint64_t offset, uint64_t len, gboolean zeros)
{
        struct piece *last = last_piece(c), p = {offset, len, zeros};

        if (last && last->zeros == zeros && last->offset + last->len == offset)
                last->len += len;
        else
                g_array_append_val(c->pieces, p);
}

static void add_zeros(struct cutter *c, uint64_t offset, uint64_t len)
{
        if (c->have > 0)
                add_piece(c, offset, len, TRUE);
        else
                layer_build_zeros(c->build, offset, len);
}

/* Whether what comes at @offset does not belong to what is pending. Few zeros may be in the middle of a file.
 */
static gboolean is_gap(const struct piece *last, uint64_t offset)
{
        return last && (last->offset + last->len != offset || (last->zeros && last->len >= CHUNK_CUT_MIN));
}

/* At most a block. */
static void add_data(struct cutter *c, uint64_t offset, const uint8_t *data, size_t len)
{
        if (is_gap(last_piece(c), offset) && c->have >= CHUNK_CUT_MIN)
                end_all_chunks(c);
        memcpy(c->pending + c->have, data, len);
        c->have += len;
        add_piece(c, offset, len, FALSE);
        if (c->have > LOOK - CHUNK_CUT_BLOCK)
                end_chunk(c, chunk_cut(c->hasher, c->pending, c->have));
}

static gboolean is_zero(const uint8_t *data, size_t len)
{
        return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

/* What lies below @offset; behind the end of a smaller disk there are zeros. */
static gboolean read_below(struct cutter *c, uint64_t offset, size_t len, GCancellable *cancellable,
                           GError **error)
{
        uint64_t size = c->parent->size_bytes;
        size_t there = offset < size ? (size_t)MIN(len, size - offset) : 0;

        memset(c->below + there, 0, len - there);
        return there == 0 || c->parent->ops->read(c->parent, offset, c->below, there, cancellable, error);
}

/* Up to the next boundary of blocks of the disk. */
static size_t block_len(uint64_t offset, size_t left)
{
        return MIN(left, CHUNK_CUT_BLOCK - (size_t)(offset % CHUNK_CUT_BLOCK));
}

static gboolean cut_window(struct cutter *c, uint64_t offset, size_t len, GCancellable *cancellable,
                           GError **error)
{
        if (g_cancellable_set_error_if_cancelled(cancellable, error) ||
            !c->reader->ops->read(c->reader, offset, c->window, len, cancellable, error) ||
            (c->parent && !read_below(c, offset, len, cancellable, error)))
                return FALSE;
        for (size_t at = 0, n; at < len; at += n) {
                n = block_len(offset + at, len - at);
                if (c->parent && memcmp(c->window + at, c->below + at, n) == 0)
                        continue;
                if (is_zero(c->window + at, n))
                        add_zeros(c, offset + at, n);
                else
                        add_data(c, offset + at, c->window + at, n);
        }
        __atomic_add_fetch(c->progress, (gint64)len, __ATOMIC_RELAXED);
        return !layer_build_is_full(c->build, error);
}

static gboolean cut_range(struct cutter *c, const struct layer_range *r, GCancellable *cancellable,
                          GError **error)
{
        if (r->kind == LAYER_RANGE_ZERO)
                add_zeros(c, r->offset, r->len);
        if (r->kind != LAYER_RANGE_DATA)
                return TRUE;
        for (uint64_t at = 0; at < r->len;) {
                /* windows end at their own multiples, so that they hold whole blocks */
                size_t n = (size_t)MIN(r->len - at, WINDOW - (r->offset + at) % WINDOW);

                if (!cut_window(c, r->offset + at, n, cancellable, error))
                        return FALSE;
                at += n;
        }
        return TRUE;
}

static gboolean cut_all(struct cutter *c, GCancellable *cancellable, GError **error)
{
        struct layer_walk w;
        struct layer_range r = {.len = 1};
        gboolean ok = TRUE;

        layer_walk_init(&w, c->reader);
        while (ok && r.len > 0)
                ok = layer_walk_next(&w, &r, cancellable, error) && cut_range(c, &r, cancellable, error);
        layer_walk_clear(&w);
        end_all_chunks(c);
        return ok;
}

static gboolean judge_size(uint64_t size, GError **error)
{
        if (size > 0 && size <= LAYER_DISK_MAX && size % LAYER_SECTOR == 0)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                    "the disk has %" G_GUINT64_FORMAT
                    " bytes; layers are of disks of whole sectors, up to 64 TiB",
                    size);
        return FALSE;
}

LayerMap *layer_cut(struct layer_reader *r, struct layer_reader *parent, gint64 *progress,
                    GCancellable *cancellable, GError **error)
{
        struct cutter c;
        LayerMap *m = NULL;

        if (!judge_size(r->size_bytes, error))
                return NULL;
        cutter_init(&c, r, parent, progress);
        if (cut_all(&c, cancellable, error))
                m = layer_build_end(c.build, error);
        cutter_clear(&c);
        return m;
}

GArray *layer_chunk_extents(const LayerMap *m)
{
        GArray *first = g_array_sized_new(FALSE, FALSE, sizeof(guint), m->chunks->len);

        for (guint i = 0; i < m->extents->len; i++)
                if (g_array_index(m->extents, struct layer_extent, i).chunk == first->len)
                        g_array_append_val(first, i);
        return first;
}

/* Where a chunk is named first it stands as a whole, in order. */
static gboolean read_pieces(struct layer_reader *r, const LayerMap *m, guint extent, uint8_t *buf,
                            uint32_t len, GCancellable *cancellable, GError **error)
{
        guint chunk = g_array_index(m->extents, struct layer_extent, extent).chunk;

        for (uint32_t at = 0; at < len && extent < m->extents->len; extent++) {
                const struct layer_extent *e = &g_array_index(m->extents, struct layer_extent, extent);

                if (e->chunk == LAYER_ZEROS)
                        continue;
                g_assert(e->chunk == chunk && e->chunk_offset == at);
                if (!r->ops->read(r, e->offset, buf + at, (size_t)e->len, cancellable, error))
                        return FALSE;
                at += (uint32_t)e->len;
        }
        return TRUE;
}

GBytes *layer_chunk_read(struct layer_reader *r, const LayerMap *m, const GArray *extents, guint chunk,
                         GCancellable *cancellable, GError **error)
{
        const struct layer_chunk *c = &g_array_index(m->chunks, struct layer_chunk, chunk);
        g_autofree uint8_t *buf = g_malloc0(c->len);
        g_autoptr(Hasher) h = hasher_new();
        uint8_t id[DIGEST_SIZE];

        if (!read_pieces(r, m, g_array_index(extents, guint, chunk), buf, c->len, cancellable, error))
                return NULL;
        hasher_sha256(h, buf, c->len, id);
        if (memcmp(id, c->id, sizeof id) == 0)
                return g_bytes_new_take(g_steal_pointer(&buf), c->len);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO,
                    "the layer has other bytes than when it was read before: it is written to, or its disk "
                    "is at fault");
        return NULL;
}
