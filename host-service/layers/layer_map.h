/* host-service/layers/layer_map.h - the map of a layer: which ranges of a disk it has, and in which chunks of
 * the store they are. docs/snapshots.md, *The map of a layer*; docs/decisions/0033-the-map-of-a-layer.md.
 *
 * The layer as the guest sees it: offsets are the disk's, no image format is in it. What no extent covers is
 * absent: it is what the layer's parent has there. Little-endian:
 *   40 bytes  "moultmap", version 1 (u32), 0 (u32), size of the disk (u64), chunks (u32), extents (u32),
 *             0 (u64)
 *   36 each   a chunk: its SHA-256, its length (u32); in the order in which extents first name them
 *   24 each   an extent: what is absent between it and the one before (u64), its length (u64), its chunk
 * (u32; LAYER_ZEROS: it is zeros), where it begins in the chunk (u32) 32 bytes  SHA-256 of all before As an
 * object of the store it is one zstd frame. There is one map only for one content that is cut in one way: two
 * extents that could be one are refused, and so is a chunk that nobody names.
 *
 * Pure; the memory of a map is that of its bytes. */
#pragma once

#include "common/digest.h"

#define LAYER_SECTOR   512u
#define LAYER_DISK_MAX (UINT64_C(64) << 40)
/* Some 190 GB of data that are neither zeros nor the parent's; a map is read into memory. */
#define LAYER_CHUNKS_MAX  1250000u
#define LAYER_EXTENTS_MAX 4000000u
#define LAYER_ZEROS       UINT32_MAX

struct layer_chunk {
        uint8_t id[DIGEST_SIZE];
        uint32_t len; /* whole sectors, at most CHUNK_CUT_MAX */
};

struct layer_extent {
        uint64_t offset, len; /* of the disk, in bytes: whole sectors */
        uint32_t chunk;       /* index, or LAYER_ZEROS */
        uint32_t chunk_offset;
};

typedef struct {
        uint64_t size_bytes; /* of the disk */
        GArray *chunks;      /* of struct layer_chunk */
        GArray *extents;     /* of struct layer_extent, by offset */
} LayerMap;
LayerMap *layer_map_new(uint64_t size_bytes);
void layer_map_free(LayerMap *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LayerMap, layer_map_free)
gboolean layer_map_equal(const LayerMap *a, const LayerMap *b);
/* Bytes of the extents that have data. */
uint64_t layer_map_data_bytes(const LayerMap *m);

/* NULL, or why it is no map; a static text. */
const char *layer_map_refusal(const LayerMap *m);
/* @m must be one. *ret_digest (may be NULL): the SHA-256 at the end, which is the map's name for whoever
 * refers to it. */
GBytes *layer_map_encode(const LayerMap *m, uint8_t *ret_digest);
/* NULL and *ret, or why it is no map: a static text. */
const char *layer_map_parse(const uint8_t *data, size_t len, LayerMap **ret);

/* As the store holds it; and back, whatever it claims. UNSUPPORTED: it would be larger than objects may be.
 * Back: CORRUPT. *ret_digest (may be NULL) as above. */
GBytes *layer_map_pack(const LayerMap *m, uint8_t *ret_digest, GError **error);
LayerMap *layer_map_unpack(GBytes *stored, uint8_t *ret_digest, GError **error);

/* Letters, digits, '-' and '_', the first no '-'; at most 64. */
gboolean layer_id_is_valid(const char *id);
/* "layers/ID.layer"; owned. */
char *layer_key(const char *id);
/* The id that a key has, owned; NULL: it is no map's key. */
char *layer_key_id(const char *key);
