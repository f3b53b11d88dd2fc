/* host-service/store/chunk_file.h - a pack's file as chunks: cutting it, and reading one. Blocks. */
#pragma once

#include "host-service/store/chunk_index.h"

/* Appends to @refs (of struct chunk_ref). *progress is set atomically to the bytes done. */
gboolean chunk_file_cut(int fd, uint64_t size, GArray *refs, gint64 *progress, GCancellable *cancellable,
                        GError **error);
static inline uint64_t chunk_begin(const GArray *refs, guint i)
{
        return i == 0 ? 0 : g_array_index(refs, struct chunk_ref, i - 1).end;
}
/* CORRUPT if the bytes do not have this name. */
GBytes *chunk_file_read(int fd, uint64_t offset, size_t len, const uint8_t id[static DIGEST_SIZE],
                        GError **error);
/* As the store holds it: one zstd frame; and back. Unpacking: CORRUPT if it is not exactly the chunk that is
 * named, whatever it claims. */
GBytes *chunk_pack(GBytes *chunk);
GBytes *chunk_unpack(GBytes *stored, size_t len, const uint8_t id[static DIGEST_SIZE], GError **error);
