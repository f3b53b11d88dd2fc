/* shm/verified_file.h - reading a file out of a pack, any bytes of it, each block verified by itself.
 *
 * Theory of operation: a block of 4096 bytes is copied to private memory, hashed, and given out only if the
 * hash block above it has this digest, that one is in the block above, and so on to the root, which must be
 * that of the digest in the signed list. Hash blocks on the way are read and verified once, and then kept as
 * private copies in a cache that all files of a pack share (shm/verified_cache.h); one that fell out of it is
 * read and verified again, since the pack may lie in memory that somebody else writes: that it was good once
 * proves nothing. A block that no extent covers is zeros because the signed list says so; nothing is read for
 * it.
 *
 * When a block is not what it must be, the place that it came from is given up where there is another one
 * (pack_source_distrust()), and it is read once more. */
#pragma once

#include "shm/pack_reader.h"

typedef struct VerifiedFile VerifiedFile;

/* @entry: index of a file entry in the reader's list. Takes a reference to @r. Reads nothing; its cost does
 * not depend on the file's size (on the number of its extents it does). MOULT_ERROR_UNSUPPORTED: the pack has
 * no hash tree of this file (manifest_is_verifiable_by_block() tells before): it can be read whole only. */
VerifiedFile *verified_file_open(PackReader *r, uint32_t entry, GError **error);
void verified_file_close(VerifiedFile *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VerifiedFile, verified_file_close)

uint64_t verified_file_size(const VerifiedFile *f);

/* Copies the bytes at @offset into @buf: @len, or up to the end of the file if that comes first; *ret_len
 * says how many (0 at or past the end). Thread-safe. @buf must be memory that nobody else writes until this
 * returns. On failure @buf holds no byte of the pack, and *ret_len is not set: CORRUPT: what the pack holds
 * there is not what was signed; what the source says (IO, TIMEOUT...): it is gone; CANCELLED. */
gboolean verified_file_read(VerifiedFile *f, uint64_t offset, void *buf, size_t len, size_t *ret_len,
                            GCancellable *cancellable, GError **error);
