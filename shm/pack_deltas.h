/* shm/pack_deltas.h - the deltas of a pack: what there is, and one frame and its prefix to new bytes.
 *
 * Theory of operation: deltas are hints. They lie in the blob area behind everything that the list names, are
 * found by a trailer at the area's end, and are not signed: whoever uses one compares the file that comes out
 * with the digest in the signed list, and takes the whole blob if it does not fit. So everything here is
 * judged as a stranger's bytes, and bounded: a frame has at most LIMIT_DELTA_PREFIX bytes to look back at and
 * gives at most LIMIT_DELTA_OUTPUT. docs/pack-format.md has the layout. */
#pragma once

#include "shm/pack_reader.h"

#define DELTA_TRAILER_SIZE 64u

/* Two indices, each with a trailer. Who knows the first one only misses nothing but the frames of the other.
 */
enum delta_index_kind {
        DELTA_INDEX_BYTES, /* from bytes of old files to bytes of blobs */
        DELTA_INDEX_GZIP,  /* also from and to what is in gzip files (shm/gzip_remake.h) */
};
#define DELTA_INDICES 2u

typedef Moult__DeltaIndex DeltaIndex;

struct delta_trailer {
        uint64_t index_offset;
        uint32_t index_stored; /* one zstd frame */
        uint32_t index_size;
        uint32_t index_crc; /* of the stored bytes */
};

/* Pure. FALSE in *ret_there, and NULL: these bytes are no trailer, there are no deltas. */
const char *delta_trailer_parse(const uint8_t buf[static DELTA_TRAILER_SIZE], enum delta_index_kind kind,
                                gboolean *ret_there, struct delta_trailer *ret);
void delta_trailer_format(const struct delta_trailer *t, enum delta_index_kind kind,
                          uint8_t ret[static DELTA_TRAILER_SIZE]);

/* Where blobs and trees of the list end: deltas lie behind that. */
uint64_t delta_area_begin(const Manifest *m, const struct pack_header *header);

/* Unpacks under a budget and checks everything against the list. @begin, @end: what frames must lie within.
 * MOULT_ERROR_MALFORMED. */
DeltaIndex *delta_index_parse(const void *data, size_t len, enum delta_index_kind kind, const Manifest *m,
                              uint64_t begin, uint64_t end, GError **error);
void delta_index_free(DeltaIndex *x);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DeltaIndex, delta_index_free)

/* Reads the indices of an open pack, as one. NULL without an error: it has none. CORRUPT, MALFORMED, or what
 * the source says. */
DeltaIndex *delta_index_read(PackReader *r, GCancellable *cancellable, GError **error);

/* The path and the digest of a source; both live as long as @m and @s. */
ProtobufCBinaryData delta_source_path(const Manifest *m, const Moult__DeltaSource *s);
const uint8_t *delta_source_digest(const Manifest *m, const Moult__DeltaSource *s);

/* Bytes that the frame gives for a part: the part itself, or what is in it. */
size_t delta_part_output(const Moult__DeltaPart *p);
/* Bytes that a frame looks back at, and that it gives. */
size_t delta_frame_prefix(const Moult__DeltaFrame *f);
size_t delta_frame_output(const Moult__DeltaFrame *f);

/* One frame to exactly @len bytes. Takes no memory beside the buffers but for a context. Not verified.
 * MOULT_ERROR_CORRUPT: damaged, cut off, too much, too little, or not over this prefix. */
gboolean delta_apply(const void *prefix, size_t prefix_len, const void *frame, size_t frame_len, void *dst,
                     size_t len, GError **error);
/* The other way. NULL if it does not get smaller than @limit bytes, or there is no memory. @level: zstd's. */
GBytes *delta_make(const void *prefix, size_t prefix_len, const void *data, size_t len, int level,
                   size_t limit);
