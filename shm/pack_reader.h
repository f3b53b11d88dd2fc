/* shm/pack_reader.h - reading a pack: header, signature and list are copied to private memory, judged, then
 * used.
 *
 * Theory of operation: the bytes may be in memory that someone else is writing, or come from a peer that
 * lies. pack_reader_open() copies each part once and keeps the copies: the header (checksum, ranges, the
 * digest that was offered), the signature, which vouches for the list's digest and size, and only then the
 * list (digest, content). After that the only thing read from the source are blob bytes, and what is done
 * with them is judged by the digests in the signed list. No function returns a pointer into the source. */
#pragma once

#include <gio/gio.h>

#include "shm/keys.h"
#include "shm/manifest.h"
#include "shm/pack_source.h"

typedef struct PackReader PackReader;

/* @source: a reference is taken. @trust: NULL skips the signature (only `release show` of a foreign file
 * may).
 * @expected_digest: the manifest digest that was offered, or NULL.
 * Errors: MALFORMED, CORRUPT (digest), UNTRUSTED (unsigned, unknown key, wrong signature), IO. */
PackReader *pack_reader_open(PackSource *source, const TrustStore *trust, const uint8_t *expected_digest,
                             GCancellable *cancellable, GError **error);
/* Opens header, manifest and signature from private copies that an agent kept in its state directory. @source
 * may be NULL: then the list is there, and reading a chunk is NOT_FOUND. */
PackReader *pack_reader_open_kept(GBytes *header, GBytes *manifest, GBytes *signature, PackSource *source,
                                  const TrustStore *trust, GError **error);
PackReader *pack_reader_ref(PackReader *r);
void pack_reader_unref(PackReader *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PackReader, pack_reader_unref)

const Manifest *pack_reader_manifest(const PackReader *r);
const struct pack_header *pack_reader_header(const PackReader *r);
/* Owned by the reader. The exact bytes, for keeping. */
GBytes *pack_reader_header_bytes(const PackReader *r);
GBytes *pack_reader_manifest_bytes(const PackReader *r);
GBytes *pack_reader_signature_bytes(const PackReader *r);
/* Key id that vouched for it (all zero when opened without trust). */
const uint8_t *pack_reader_key_id(const PackReader *r);
PackSource *pack_reader_source(const PackReader *r);
/* Owned by the reader: what verified_file_read() keeps, for all files of the pack. */
typedef struct VerifiedCache VerifiedCache;
VerifiedCache *pack_reader_cache(const PackReader *r);

/* Scratch memory of one reading thread: input buffer, zstd context. */
typedef struct BlobBuffer BlobBuffer;
BlobBuffer *blob_buffer_new(void);
void blob_buffer_free(BlobBuffer *b);
/* What was read ahead is not to be used any more. */
void blob_buffer_forget(BlobBuffer *b);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BlobBuffer, blob_buffer_free)

/* Blobs count from 0 here: an entry's `blob` field minus 1.
 * Bytes [chunk * CHUNK_SIZE, ...) of blob @blob after decompression into @dst (CHUNK_SIZE bytes); *ret_len is
 * set. Thread-safe with one BlobBuffer per thread. Not verified: compare the file's digest. */
gboolean pack_reader_read_chunk(PackReader *r, uint32_t blob, uint64_t chunk, BlobBuffer *scratch, void *dst,
                                size_t *ret_len, GCancellable *cancellable, GError **error);
/* Exactly @len bytes at @offset of the pack, as they are stored: of a raw blob, or of a tree. Thread-safe.
 * Not verified. MOULT_ERROR_CORRUPT if they are not in the blob area. */
gboolean pack_reader_read_stored(PackReader *r, uint64_t offset, void *dst, size_t len,
                                 GCancellable *cancellable, GError **error);
/* Several small neighbouring blobs in one read of the source: fills @scratch with [first, first+count) raw
 * (stored) bytes, at most CHUNK_SIZE in all, so that pack_reader_read_chunk() with the same scratch is served
 * from it. Over a session this turns a round trip per file into one per MiB. */
gboolean pack_reader_prefetch(PackReader *r, uint64_t offset, size_t len, BlobBuffer *scratch,
                              GCancellable *cancellable, GError **error);
