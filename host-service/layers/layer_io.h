/* host-service/layers/layer_io.h - where a layer's content is read from, and where that of restore points is
 * written to: operation tables, whose owners know of image formats. Nothing here does.
 *
 * Calls block and come from worker threads, never two at once for one reader or writer. Offsets and lengths
 * are the disk's as the guest sees it, whole sectors (LAYER_SECTOR), and never leave it. */
#pragma once

#include <gio/gio.h>
#include <stdint.h>

typedef enum {
        LAYER_RANGE_ABSENT, /* what lies below is seen */
        LAYER_RANGE_ZERO,   /* reads as zeros, whatever lies below */
        LAYER_RANGE_DATA
} LayerRangeKind;

struct layer_range {
        uint64_t offset, len;
        LayerRangeKind kind;
};

struct layer_reader;
struct layer_reader_ops {
        /* Appends to @ranges (of struct layer_range) what there is from @offset on: at least one range, the
         * first beginning at @offset, each where the one before ends. They may end before @offset + @len (it
         * is asked again) and behind it. */
        gboolean (*map)(struct layer_reader *r, uint64_t offset, uint64_t len, GArray *ranges,
                        GCancellable *cancellable, GError **error);
        /* All @len bytes. Of a layer: of ranges that are data only; of what lies below it: of any. */
        gboolean (*read)(struct layer_reader *r, uint64_t offset, void *buf, size_t len,
                         GCancellable *cancellable, GError **error);
};
struct layer_reader {
        const struct layer_reader_ops *ops;
        uint64_t size_bytes; /* of the disk */
};

struct layer_writer;
struct layer_writer_ops {
        /* Ranges come in any order, each byte once, but for attempts that failed. */
        gboolean (*write)(struct layer_writer *w, uint64_t offset, const void *data, size_t len,
                          GCancellable *cancellable, GError **error);
        /* Zeros that hide what lies below, if there is anything. @len may be the whole disk. */
        gboolean (*zero)(struct layer_writer *w, uint64_t offset, uint64_t len, GCancellable *cancellable,
                         GError **error);
};
struct layer_writer {
        const struct layer_writer_ops *ops;
        uint64_t size_bytes;
};
