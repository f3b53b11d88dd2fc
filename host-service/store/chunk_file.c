/* host-service/store/chunk_file.c - cutting, reading, compressing chunks. */
#include "host-service/store/chunk_file.h"

#include <string.h>
#include <zstd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/store/chunk_cut.h"

#define LOOK  (CHUNK_CUT_MAX + CHUNK_CUT_BLOCK)
#define BUF   (8u * CHUNK_CUT_MAX)
#define LEVEL 3

gboolean chunk_file_cut(int fd, uint64_t size, GArray *refs, gint64 *progress, GCancellable *cancellable,
                        GError **error)
{
        g_autoptr(Hasher) h = hasher_new();
        g_autofree uint8_t *buf = g_malloc(BUF);
        size_t have = 0, pos = 0;

        for (uint64_t at = 0; at < size;) { /* buf[pos..have) are the bytes at @at */
                struct chunk_ref r;
                size_t n;

                if (have - pos < LOOK && at + (have - pos) < size) {
                        size_t more;

                        memmove(buf, buf + pos, have - pos);
                        have -= pos;
                        pos = 0;
                        more = (size_t)MIN(BUF - have, size - at - have);
                        if (g_cancellable_set_error_if_cancelled(cancellable, error) ||
                            !fd_pread_all(fd, buf + have, more, (off_t)(at + have), "the pack", error))
                                return FALSE;
                        have += more;
                }
                n = chunk_cut(h, buf + pos, have - pos);
                hasher_sha256(h, buf + pos, n, r.id);
                pos += n;
                at += n;
                r.end = at;
                g_array_append_val(refs, r);
                __atomic_store_n(progress, (gint64)at, __ATOMIC_RELAXED);
        }
        return TRUE;
}

static gboolean has_id(const void *data, size_t len, const uint8_t id[static DIGEST_SIZE])
{
        g_autoptr(Hasher) h = hasher_new();
        uint8_t digest[DIGEST_SIZE];

        hasher_sha256(h, data, len, digest);
        return memcmp(digest, id, DIGEST_SIZE) == 0;
}

GBytes *chunk_file_read(int fd, uint64_t offset, size_t len, const uint8_t id[static DIGEST_SIZE],
                        GError **error)
{
        g_autofree uint8_t *buf = g_malloc(len);

        if (!fd_pread_all(fd, buf, len, (off_t)offset, "the pack", error))
                return NULL;
        if (has_id(buf, len, id))
                return g_bytes_new_take(g_steal_pointer(&buf), len);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "the pack's bytes are not what they were");
        return NULL;
}

GBytes *chunk_pack(GBytes *chunk)
{
        gsize len;
        const void *data = g_bytes_get_data(chunk, &len);
        size_t bound = ZSTD_compressBound(len), n;
        uint8_t *out = g_malloc(bound);

        n = ZSTD_compress(out, bound, data, len, LEVEL);
        g_assert(!ZSTD_isError(n)); /* there is room, and memory: GLib's rule */
        return g_bytes_new_take(g_realloc(out, n), n);
}

GBytes *chunk_unpack(GBytes *stored, size_t len, const uint8_t id[static DIGEST_SIZE], GError **error)
{
        gsize stored_len;
        const void *data = g_bytes_get_data(stored, &stored_len);
        g_autofree uint8_t *out = g_malloc(len);

        if (ZSTD_decompress(out, len, data, stored_len) == len && has_id(out, len, id))
                return g_bytes_new_take(g_steal_pointer(&out), len);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "a chunk does not have the bytes that its name says");
        return NULL;
}
