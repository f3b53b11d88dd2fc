/* shm/pack_reader.c - reading a pack: header, signature and list are copied to private memory, judged, then
 * used. */
#include "shm/pack_reader.h"

#include <string.h>
#include <zstd.h>

#include "common/error.h"
#include "shm/pack_signature.h"
#include "shm/verified_cache.h"

/* Where a frame of a large blob begins is a sum over the frames before; every 64th sum is kept. */
#define CHECKPOINT_STRIDE 64u

G_DEFINE_AUTOPTR_CLEANUP_FUNC(ZSTD_DCtx, ZSTD_freeDCtx)

struct PackReader {
        gint refs;          /* atomic */
        PackSource *source; /* NULL: a kept list without its pack */
        GBytes *header_bytes, *manifest_bytes, *signature_bytes;
        struct pack_header header;
        Manifest *manifest;
        uint64_t **checkpoints; /* per blob; NULL for raw ones */
        uint8_t key_id[DIGEST_SIZE];
        VerifiedCache *cache;
};

struct BlobBuffer {
        const PackReader *owner; /* whose bytes are in @ahead */
        uint64_t ahead_offset;
        size_t ahead_len;
        uint8_t *ahead;  /* CHUNK_SIZE; made when first used */
        uint8_t *stored; /* ZSTD_COMPRESSBOUND(CHUNK_SIZE); made when first used */
        ZSTD_DCtx *zstd;
};

/* --- the gates --- */

static GBytes *copy_range(PackSource *source, uint64_t offset, size_t len, const char *what,
                          GCancellable *cancellable, GError **error)
{
        g_autofree uint8_t *buf = g_try_malloc(len + 1);
        if (buf == NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NO_SPACE,
                            "reading the pack's %s: no memory for %zu bytes", what, len);
                return NULL;
        }
        if (!pack_source_read(source, offset, buf, len, cancellable, error)) {
                g_prefix_error(error, "reading the pack's %s: ", what);
                return NULL;
        }
        return g_bytes_new_take(g_steal_pointer(&buf), len);
}

static gboolean malformed(GError **error, const char *why)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "opening the pack: %s", why);
        return FALSE;
}

/* The header names what was offered. */
static gboolean check_offered(const PackReader *r, const uint8_t *expected, GError **error)
{
        if (expected == NULL || memcmp(r->header.manifest_digest, expected, DIGEST_SIZE) == 0)
                return TRUE;
        char is[2 * DIGEST_SIZE + 1], should[2 * DIGEST_SIZE + 1];
        digest_to_hex(r->header.manifest_digest, is);
        digest_to_hex(expected, should);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "opening the pack: it is %.12s, but %.12s was offered", is, should);
        return FALSE;
}

static gboolean check_signature(PackReader *r, const TrustStore *trust, GError **error)
{
        if (g_bytes_get_size(r->signature_bytes) != r->header.signature_size)
                return malformed(error, "the signature is not as long as the header says");
        return trust == NULL ||
               pack_signature_verify(&r->header, r->signature_bytes, trust, r->key_id, error);
}

static void make_checkpoints(PackReader *r)
{
        const Manifest *m = r->manifest;
        r->checkpoints = g_new0(uint64_t *, m->n_blobs + 1);
        for (size_t i = 0; i < m->n_blobs; i++) {
                const Moult__Blob *b = m->blobs[i];
                if (b->n_chunk_sizes <= CHECKPOINT_STRIDE)
                        continue;
                r->checkpoints[i] = g_new(uint64_t, (b->n_chunk_sizes - 1) / CHECKPOINT_STRIDE + 1);
                uint64_t sum = 0;
                for (size_t c = 0; c < b->n_chunk_sizes; c++) {
                        if (c % CHECKPOINT_STRIDE == 0)
                                r->checkpoints[i][c / CHECKPOINT_STRIDE] = sum;
                        sum += b->chunk_sizes[c];
                }
        }
}

/* The list that the header names, and then what it says. */
static gboolean check_list(PackReader *r, GError **error)
{
        g_autoptr(Hasher) h = hasher_new();
        uint8_t digest[DIGEST_SIZE];
        gsize len;
        const void *data = g_bytes_get_data(r->manifest_bytes, &len);
        hasher_sha256(h, data, len, digest);
        if (len != r->header.manifest_size || memcmp(digest, r->header.manifest_digest, DIGEST_SIZE) != 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "opening the pack: its file list does not have the digest that the header names");
                return FALSE;
        }
        r->manifest = manifest_parse(data, len, &r->header, error);
        if (r->manifest == NULL) {
                g_prefix_error(error, "opening the pack: ");
                return FALSE;
        }
        make_checkpoints(r);
        return TRUE;
}

static PackReader *reader_new(PackSource *source)
{
        PackReader *r = g_new0(PackReader, 1);
        r->refs = 1;
        r->source = source != NULL ? pack_source_ref(source) : NULL;
        r->cache = verified_cache_new();
        return r;
}

PackReader *pack_reader_open(PackSource *source, const TrustStore *trust, const uint8_t *expected_digest,
                             GCancellable *cancellable, GError **error)
{
        g_autoptr(PackReader) r = reader_new(source);

        r->header_bytes = copy_range(source, 0, PACK_HEADER_SIZE, "header", cancellable, error);
        if (r->header_bytes == NULL)
                return NULL;
        const char *why =
                pack_header_parse(g_bytes_get_data(r->header_bytes, NULL), source->size, &r->header);
        if (why != NULL) {
                malformed(error, why);
                return NULL;
        }
        if (!check_offered(r, expected_digest, error))
                return NULL;
        r->signature_bytes = copy_range(source, r->header.signature_offset, (size_t)r->header.signature_size,
                                        "signature", cancellable, error);
        if (r->signature_bytes == NULL || !check_signature(r, trust, error))
                return NULL;
        /* Only now: until here its size, of up to 256 MiB, was anybody's word. */
        r->manifest_bytes = copy_range(source, r->header.manifest_offset, (size_t)r->header.manifest_size,
                                       "file list", cancellable, error);
        if (r->manifest_bytes == NULL || !check_list(r, error))
                return NULL;
        return g_steal_pointer(&r);
}

PackReader *pack_reader_open_kept(GBytes *header, GBytes *manifest, GBytes *signature, PackSource *source,
                                  const TrustStore *trust, GError **error)
{
        g_autoptr(PackReader) r = reader_new(source);

        r->header_bytes = g_bytes_ref(header);
        r->manifest_bytes = g_bytes_ref(manifest);
        r->signature_bytes = g_bytes_ref(signature);
        const char *why = g_bytes_get_size(header) == PACK_HEADER_SIZE
                                  ? pack_header_parse(g_bytes_get_data(header, NULL),
                                                      source != NULL ? source->size : G_MAXUINT64, &r->header)
                                  : "the kept header is not 4096 bytes";
        if (why != NULL) {
                malformed(error, why);
                return NULL;
        }
        if (!check_signature(r, trust, error) || !check_list(r, error))
                return NULL;
        return g_steal_pointer(&r);
}

PackReader *pack_reader_ref(PackReader *r)
{
        g_atomic_int_inc(&r->refs);
        return r;
}

void pack_reader_unref(PackReader *r)
{
        if (r == NULL || !g_atomic_int_dec_and_test(&r->refs))
                return;
        for (size_t i = 0; r->checkpoints != NULL && i < r->manifest->n_blobs; i++)
                g_free(r->checkpoints[i]);
        g_free(r->checkpoints);
        verified_cache_free(r->cache);
        manifest_free(r->manifest);
        pack_source_unref(r->source);
        g_clear_pointer(&r->header_bytes, g_bytes_unref);
        g_clear_pointer(&r->manifest_bytes, g_bytes_unref);
        g_clear_pointer(&r->signature_bytes, g_bytes_unref);
        g_free(r);
}

const Manifest *pack_reader_manifest(const PackReader *r)
{
        return r->manifest;
}

const struct pack_header *pack_reader_header(const PackReader *r)
{
        return &r->header;
}

GBytes *pack_reader_header_bytes(const PackReader *r)
{
        return r->header_bytes;
}

GBytes *pack_reader_manifest_bytes(const PackReader *r)
{
        return r->manifest_bytes;
}

GBytes *pack_reader_signature_bytes(const PackReader *r)
{
        return r->signature_bytes;
}

const uint8_t *pack_reader_key_id(const PackReader *r)
{
        return r->key_id;
}

PackSource *pack_reader_source(const PackReader *r)
{
        return r->source;
}

VerifiedCache *pack_reader_cache(const PackReader *r)
{
        return r->cache;
}

/* --- blobs --- */

BlobBuffer *blob_buffer_new(void)
{
        return g_new0(BlobBuffer, 1);
}

void blob_buffer_free(BlobBuffer *b)
{
        if (b == NULL)
                return;
        ZSTD_freeDCtx(b->zstd);
        g_free(b->ahead);
        g_free(b->stored);
        g_free(b);
}

void blob_buffer_forget(BlobBuffer *b)
{
        b->owner = NULL;
}

static gboolean read_stored(PackReader *r, uint64_t offset, void *dst, size_t len, GCancellable *cancellable,
                            GError **error)
{
        if (r->source == NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "reading the pack: only its file list was kept, its contents are not here");
                return FALSE;
        }
        return pack_source_read(r->source, offset, dst, len, cancellable, error);
}

/* True if [offset, offset + len) was read ahead from this pack. */
static gboolean is_ahead(const PackReader *r, const BlobBuffer *b, uint64_t offset, size_t len)
{
        return b->owner == r && offset >= b->ahead_offset && offset - b->ahead_offset <= b->ahead_len &&
               len <= b->ahead_len - (size_t)(offset - b->ahead_offset);
}

static gboolean check_area(const PackReader *r, uint64_t offset, size_t len, GError **error)
{
        const struct pack_header *h = &r->header;
        if (offset >= h->blobs_offset && offset - h->blobs_offset <= h->blobs_size &&
            len <= h->blobs_size - (offset - h->blobs_offset))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "reading %zu bytes at %" G_GUINT64_FORMAT " of the pack: that is not in its blobs", len,
                    offset);
        return FALSE;
}

gboolean pack_reader_read_stored(PackReader *r, uint64_t offset, void *dst, size_t len,
                                 GCancellable *cancellable, GError **error)
{
        return check_area(r, offset, len, error) && read_stored(r, offset, dst, len, cancellable, error);
}

gboolean pack_reader_prefetch(PackReader *r, uint64_t offset, size_t len, BlobBuffer *scratch,
                              GCancellable *cancellable, GError **error)
{
        if (len > CHUNK_SIZE) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "reading ahead %zu bytes of the pack: more than a chunk", len);
                return FALSE;
        }
        if (!check_area(r, offset, len, error))
                return FALSE;
        if (scratch->ahead == NULL)
                scratch->ahead = g_malloc(CHUNK_SIZE);
        scratch->owner = NULL; /* should the read fail half-way */
        if (!read_stored(r, offset, scratch->ahead, len, cancellable, error))
                return FALSE;
        scratch->owner = r;
        scratch->ahead_offset = offset;
        scratch->ahead_len = len;
        return TRUE;
}

static uint64_t frame_offset(const PackReader *r, uint32_t blob, uint64_t chunk)
{
        const Moult__Blob *b = r->manifest->blobs[blob];
        uint64_t first = 0, sum = b->offset;
        if (r->checkpoints[blob] != NULL) {
                first = chunk / CHECKPOINT_STRIDE * CHECKPOINT_STRIDE;
                sum += r->checkpoints[blob][chunk / CHECKPOINT_STRIDE];
        }
        for (uint64_t c = first; c < chunk; c++)
                sum += b->chunk_sizes[c];
        return sum;
}

static gboolean corrupt_chunk(GError **error, uint32_t blob, uint64_t chunk, const char *why)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "reading blob %u of the pack, chunk %" G_GUINT64_FORMAT ": %s", blob + 1, chunk, why);
        return FALSE;
}

static gboolean read_zstd_chunk(PackReader *r, uint32_t blob, uint64_t chunk, BlobBuffer *scratch, void *dst,
                                size_t len, GCancellable *cancellable, GError **error)
{
        uint64_t offset = frame_offset(r, blob, chunk);
        size_t stored_len = r->manifest->blobs[blob]->chunk_sizes[chunk];
        const uint8_t *stored;

        if (is_ahead(r, scratch, offset, stored_len)) {
                stored = scratch->ahead + (offset - scratch->ahead_offset);
        } else {
                if (scratch->stored == NULL)
                        scratch->stored = g_malloc(ZSTD_COMPRESSBOUND(CHUNK_SIZE));
                if (!read_stored(r, offset, scratch->stored, stored_len, cancellable, error))
                        return FALSE;
                stored = scratch->stored;
        }
        if (scratch->zstd == NULL)
                scratch->zstd = ZSTD_createDCtx();
        if (scratch->zstd == NULL)
                return corrupt_chunk(error, blob, chunk, "no memory to decompress");
        /* Exactly one frame, that gives exactly the bytes of the chunk. */
        if (ZSTD_findFrameCompressedSize(stored, stored_len) != stored_len)
                return corrupt_chunk(error, blob, chunk, "it is not one zstd frame");
        size_t n = ZSTD_decompressDCtx(scratch->zstd, dst, len, stored, stored_len);
        if (ZSTD_isError(n))
                return corrupt_chunk(error, blob, chunk, ZSTD_getErrorName(n));
        return n == len ? TRUE : corrupt_chunk(error, blob, chunk, "it has fewer bytes than the list says");
}

gboolean pack_reader_read_chunk(PackReader *r, uint32_t blob, uint64_t chunk, BlobBuffer *scratch, void *dst,
                                size_t *ret_len, GCancellable *cancellable, GError **error)
{
        g_assert(blob < r->manifest->n_blobs);
        const Moult__Blob *b = r->manifest->blobs[blob];
        g_assert(chunk <= (b->size - 1) / CHUNK_SIZE);
        uint64_t start = chunk * CHUNK_SIZE;
        size_t len = (size_t)MIN(b->size - start, CHUNK_SIZE);

        if (b->storage == MOULT__BLOB_STORAGE__BLOB_ZSTD) {
                if (!read_zstd_chunk(r, blob, chunk, scratch, dst, len, cancellable, error))
                        return FALSE;
        } else if (is_ahead(r, scratch, b->offset + start, len)) {
                memcpy(dst, scratch->ahead + (b->offset + start - scratch->ahead_offset), len);
        } else if (!read_stored(r, b->offset + start, dst, len, cancellable, error)) {
                return FALSE;
        }
        *ret_len = len;
        return TRUE;
}
