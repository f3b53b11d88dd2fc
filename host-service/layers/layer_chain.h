/* host-service/layers/layer_chain.h - what is seen through a chain of layers, and two layers as one. Pure:
 * maps only, no data are touched.
 *
 * Theory of operation: where a layer is absent, what is below shows through, up to the end of the smaller of
 * the two disks: behind the end of what is below there are zeros, whatever lies deeper. (So it is in QEMU,
 * too.) */
#pragma once

#include "host-service/layers/layer_map.h"

struct seen_extent {
        uint64_t offset, len;
        uint32_t layer; /* index of the map; for zeros of no meaning */
        uint32_t chunk; /* of that map, or LAYER_ZEROS */
        uint32_t chunk_offset;
};

/* What a disk of the newest layer's size shows: of struct seen_extent, by offset. What no extent covers is
 * absent in all of them. @n at least 1. */
GArray *layer_map_overlay(const LayerMap *const *newest_first, guint n);
/* A layer that does on @parent's parent what @child does on @parent. With it in place of @child a chain shows
 * the same with @parent, and without. UNSUPPORTED as in layer_build_end(). */
LayerMap *layer_map_squash(const LayerMap *parent, const LayerMap *child, GError **error);
