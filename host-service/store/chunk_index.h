/* host-service/store/chunk_index.h - the list of a pack's chunks, as casync writes it (.caibx).
 *
 * The format and the names of the chunks are casync's (docs/decisions/0020-chunks.md), so that casync and
 * desync can put a pack together where moult cannot. Little-endian:
 *   48 bytes  size 48, type INDEX, flags 0 (names are SHA-256), smallest, average and largest chunk
 *   16 bytes  size 2^64-1, type TABLE
 *   40 each   where the chunk ends in the pack, its SHA-256
 *   40 bytes  0, 0, 48, size of the table, marker
 * Pure. */
#pragma once

#include "common/digest.h"

/* Some 250 GB of pack: an index is read into memory. */
#define CHUNK_INDEX_MAX_BYTES (64u << 20)

struct chunk_ref {
        uint64_t end; /* offset behind it; it begins where the one before ends, the first at 0 */
        uint8_t id[DIGEST_SIZE];
};

/* @refs: of struct chunk_ref, ascending. */
GBytes *chunk_index_encode(const GArray *refs);
/* NULL, and *ret_refs of struct chunk_ref (at least one), or why it is none: a static text. Chunks have 1 to
 * CHUNK_CUT_MAX bytes. */
const char *chunk_index_parse(const uint8_t *data, size_t len, GArray **ret_refs);

/* "chunks/0123/0123...ef.cacnk" and "releases/NAME/VERSION.caibx"; owned. */
char *chunk_key(const uint8_t id[static DIGEST_SIZE]);
gboolean chunk_key_is(const char *key); /* whether it has a chunk's form */
char *release_key(const char *name, const char *version);
