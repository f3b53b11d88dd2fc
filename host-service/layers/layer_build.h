/* host-service/layers/layer_build.h - putting a map together, extent by extent, in the order of the disk.
 *
 * It joins what can be one, names each chunk once, and stops to grow at the limits of a map. */
#pragma once

#include "host-service/layers/layer_map.h"

typedef struct LayerBuild LayerBuild;
LayerBuild *layer_build_new(uint64_t size_bytes);
void layer_build_free(LayerBuild *b);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LayerBuild, layer_build_free)

/* Not before the extent that was added last ends. Chunks are the same if id and length are. */
void layer_build_data(LayerBuild *b, uint64_t offset, uint64_t len, const struct layer_chunk *chunk,
                      uint32_t chunk_offset);
void layer_build_zeros(LayerBuild *b, uint64_t offset, uint64_t len);
/* The map; @b is empty then and can only be freed. UNSUPPORTED: a map cannot hold all that was added; asked
 * at any time by layer_build_is_full(). */
LayerMap *layer_build_end(LayerBuild *b, GError **error);
gboolean layer_build_is_full(const LayerBuild *b, GError **error);
