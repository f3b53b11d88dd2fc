/* common/digest.h - SHA-256 and the fs-verity digest, over libcrypto.
 *
 * The fs-verity digest (Documentation/filesystems/fsverity.rst) is the SHA-256 of a descriptor that holds the
 * root of a Merkle tree over 4096-byte blocks. libfsverity computes it front to back; moult hashes chunks of
 * one file in parallel and must be able to check single blocks, so the tree is put together here (and tests
 * compare it with libfsverity). The hash itself is libcrypto's. docs/decisions/0003-verity-tree.md. */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

#define DIGEST_SIZE       32
#define VERITY_BLOCK_SIZE 4096u
/* Pieces in which files are staged and compressed. A chunk is exactly two level-1 blocks of the tree. */
#define CHUNK_SIZE (1024u * 1024u)

/* A SHA-256 context that is reused: creating one costs more than hashing a block. One per thread. */
typedef struct Hasher Hasher;
Hasher *hasher_new(void);
void hasher_free(Hasher *h);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Hasher, hasher_free)
void hasher_sha256(Hasher *h, const void *data, size_t len, uint8_t ret[static DIGEST_SIZE]);

/* The Merkle tree of one file of known size, filled chunk by chunk in any order.
 * Thread rule: verity_tree_add_chunk() may run in several threads at once for different chunks. */
typedef struct VerityTree VerityTree;
VerityTree *verity_tree_new(uint64_t size_bytes);
void verity_tree_free(VerityTree *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VerityTree, verity_tree_free)
/* @len is CHUNK_SIZE but for the last chunk of the file. */
void verity_tree_add_chunk(VerityTree *t, Hasher *h, uint64_t chunk_index, const void *data, size_t len);
/* A chunk that lies wholly in a hole. Costs next to nothing. */
void verity_tree_add_zero_chunk(VerityTree *t, Hasher *h, uint64_t chunk_index);
/* The same, and gives out the level-1 blocks over the chunk, at most two; returns how many (0 for a file of
 * one block, which has no hash blocks). They are blocks VERITY_LEAVES_PER_CHUNK * @chunk_index onwards of
 * level 1.
 * @data NULL: the chunk is zeros. */
#define VERITY_LEAVES_PER_CHUNK (CHUNK_SIZE / (VERITY_BLOCK_SIZE / DIGEST_SIZE) / VERITY_BLOCK_SIZE)
size_t verity_tree_add_chunk_leaves(VerityTree *t, Hasher *h, uint64_t chunk_index, const void *data,
                                    uint8_t ret[static VERITY_LEAVES_PER_CHUNK * VERITY_BLOCK_SIZE]);
/* After every chunk was added. */
void verity_tree_digest(VerityTree *t, Hasher *h, uint8_t ret[static DIGEST_SIZE]);

/* A block of the stored tree, with its index there (common/verity_layout.h). */
typedef void (*verity_block_sink)(uint64_t index, const uint8_t block[static VERITY_BLOCK_SIZE],
                                  gpointer user);
/* The same, and gives every hash block above level 1 to @sink, which may be NULL. */
void verity_tree_finish(VerityTree *t, Hasher *h, verity_block_sink sink, gpointer user,
                        uint8_t ret[static DIGEST_SIZE]);
/* The digest of a file of this size whose tree has this root. */
void verity_root_digest(Hasher *h, uint64_t size_bytes, const uint8_t root[static DIGEST_SIZE],
                        uint8_t ret[static DIGEST_SIZE]);

/* Digest of a whole small buffer. */
void verity_digest_buffer(Hasher *h, const void *data, size_t len, uint8_t ret[static DIGEST_SIZE]);
/* Digest of an open file, read front to back. Holes are skipped by SEEK_DATA. */
gboolean verity_digest_fd(Hasher *h, int fd, uint64_t size_bytes, uint8_t ret[static DIGEST_SIZE],
                          GCancellable *cancellable, GError **error);

/* Lower-case hex, 64 characters and NUL. */
void digest_to_hex(const uint8_t d[static DIGEST_SIZE], char ret[static 2 * DIGEST_SIZE + 1]);
/* The first 2 * @len characters of @hex, which may end earlier: FALSE, and @ret is of no meaning. */
bool bytes_from_hex(const char *hex, uint8_t *ret, size_t len);
bool digest_from_hex(const char *hex, uint8_t ret[static DIGEST_SIZE]);
