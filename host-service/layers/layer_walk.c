/* host-service/layers/layer_walk.c - asking a reader for its ranges, a part of the disk at a time. */
#include "host-service/layers/layer_walk.h"

#include "common/error.h"
#include "host-service/layers/layer_map.h"

#define WINDOW (UINT64_C(1) << 30) /* so that a list of ranges is short, whatever the disk's size */

void layer_walk_init(struct layer_walk *w, struct layer_reader *r)
{
        *w = (struct layer_walk){.reader = r,
                                 .ranges = g_array_new(FALSE, FALSE, sizeof(struct layer_range))};
}

void layer_walk_clear(struct layer_walk *w)
{
        g_clear_pointer(&w->ranges, g_array_unref);
}

static gboolean ask(struct layer_walk *w, GCancellable *cancellable, GError **error)
{
        struct layer_reader *r = w->reader;

        g_array_set_size(w->ranges, 0);
        w->next = 0;
        if (g_cancellable_set_error_if_cancelled(cancellable, error) ||
            !r->ops->map(r, w->at, MIN(WINDOW, r->size_bytes - w->at), w->ranges, cancellable, error))
                return FALSE;
        if (w->ranges->len > 0)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "the disk has nothing at %" G_GUINT64_FORMAT,
                    w->at);
        return FALSE;
}

gboolean layer_walk_next(struct layer_walk *w, struct layer_range *ret, GCancellable *cancellable,
                         GError **error)
{
        const struct layer_range *range;

        if (w->at == w->reader->size_bytes) {
                *ret = (struct layer_range){.offset = w->at};
                return TRUE;
        }
        if (w->next == w->ranges->len && !ask(w, cancellable, error))
                return FALSE;
        range = &g_array_index(w->ranges, struct layer_range, w->next);
        if (range->offset != w->at || range->len == 0 || range->len % LAYER_SECTOR != 0 ||
            range->len > w->reader->size_bytes - w->at) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "the disk's ranges do not fit together: at %" G_GUINT64_FORMAT
                            " there is one at %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " bytes",
                            w->at, range->offset, range->len);
                return FALSE;
        }
        *ret = *range;
        w->next++;
        w->at += range->len;
        return TRUE;
}

gboolean layer_walk_count(struct layer_reader *r, uint64_t *ret_data_bytes, GCancellable *cancellable,
                          GError **error)
{
        struct layer_walk w;
        struct layer_range range = {.len = 1};
        uint64_t n = 0;
        gboolean ok = TRUE;

        layer_walk_init(&w, r);
        while (ok && range.len > 0) {
                ok = layer_walk_next(&w, &range, cancellable, error);
                if (ok && range.kind == LAYER_RANGE_DATA)
                        n += range.len;
        }
        layer_walk_clear(&w);
        if (ok)
                *ret_data_bytes = n;
        return ok;
}
