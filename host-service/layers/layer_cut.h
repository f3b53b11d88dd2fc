/* host-service/layers/layer_cut.h - from the content of a layer to its map: what is in it, and where chunks
 * begin.
 *
 * Theory of operation: what the layer has is looked at in blocks of 4096 bytes (CHUNK_CUT_BLOCK). A block
 * that is what the parent has is left out, one of zeros is told and not stored. What is left is strung
 * together, over gaps, and cut by its content (store/chunk_cut.h), because a chunk for each block that the
 * guest wrote here and there would be an object for each. At a gap a chunk ends if it has the smallest size
 * already, so that what stands alone is cut alike wherever it stands. The same content gives the same map.
 *
 * Blocks; memory: the map, and two chunks. */
#pragma once

#include "host-service/layers/layer_io.h"
#include "host-service/layers/layer_map.h"

/* @parent: what the layer stands on, all of it; NULL: nothing is compared. *progress grows atomically by the
 * bytes of data that were read. UNSUPPORTED as in layer_build_end(). */
LayerMap *layer_cut(struct layer_reader *r, struct layer_reader *parent, gint64 *progress,
                    GCancellable *cancellable, GError **error);
/* For each chunk the index of the first extent that names it; of guint. */
GArray *layer_chunk_extents(const LayerMap *m);
/* The bytes of a chunk, from the layer whose map @m is; @extents: as above. IO: the layer has other bytes
 * there than when it was cut. */
GBytes *layer_chunk_read(struct layer_reader *r, const LayerMap *m, const GArray *extents, guint chunk,
                         GCancellable *cancellable, GError **error);
