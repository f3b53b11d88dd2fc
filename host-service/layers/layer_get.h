/* host-service/layers/layer_get.h - the steps by which the content of a disk comes out of the store, for
 * worker threads; layers/layer_restore.c puts them in order.
 *
 * Theory of operation: the maps are fetched, and laid over each other (layer_chain.h). Then each chunk that
 * is seen anywhere is fetched once, compared with its name, and written wherever it is seen; zeros are
 * written too. Nothing in the store is believed but the maps, and these only if nobody knows their digests.
 */
#pragma once

#include "host-service/layers/layer_chain.h"
#include "host-service/layers/layer_io.h"
#include "host-service/layers/layer_task.h"

struct layer_get {
        ObjectStore *objects;
        struct layer_writer *writer;
        const struct layer_restore_options *options;
        GPtrArray *maps; /* of LayerMap, newest first; NULL: not fetched yet */
        GArray *seen;    /* of struct seen_extent */
        GArray *first;   /* of guint, for each different chunk: the first extent that shows it */
        GArray *same;    /* of guint, for each extent: the next one that shows the same chunk; 0: none */
        GArray *zeros;   /* of guint: extents that show zeros */
        guint64 data_bytes, zero_bytes;
        gint64 fetched_bytes, found; /* atomic */
        GMutex lock;                 /* a writer has one caller at a time */
};
void layer_get_init(struct layer_get *g, ObjectStore *objects, struct layer_writer *writer, guint layers,
                    const struct layer_restore_options *options);
void layer_get_clear(struct layer_get *g);

/* A layer's map out of the store, compared with its digest, if that is known. CORRUPT: it is none, or another
 * one. */
LayerMap *layer_map_fetch(ObjectStore *o, const struct layer_ref *ref, GCancellable *cancellable,
                          GError **error);

/* The map of layer @index; several at once. */
gboolean layer_get_map(struct layer_get *g, guint index, const struct layer_ref *ref,
                       GCancellable *cancellable, GError **error);
/* When all are there: what is to be written. CORRUPT: it is not of the writer's size. */
gboolean layer_get_plan(struct layer_get *g, GError **error);
/* Step @index of layer_get_steps(): zeros, or a chunk. *ret_fetched: bytes from the store; *ret_written: of
 * data. */
guint layer_get_steps(const struct layer_get *g);
gboolean layer_get_write(struct layer_get *g, guint index, gsize *ret_fetched, guint64 *ret_written,
                         GCancellable *cancellable, GError **error);
