/* shm/verified_cache.h - what the readers of single blocks of one pack share: hash blocks that were verified,
 * chunks that were unpacked, scratch memory.
 *
 * All of it is bounded, whatever the number of open files: 4 MiB of hash blocks (they stand for 512 MiB of
 * content), 8 unpacked chunks, and what is in use at the moment. One lock, never held while something is
 * read, unpacked or hashed. */
#pragma once

#include "shm/pack_reader.h"

#define VERIFIED_CACHE_BLOCKS 1024u
#define VERIFIED_CACHE_CHUNKS 8u

VerifiedCache *verified_cache_new(void);
void verified_cache_free(VerifiedCache *c);

/* Hash blocks by their offset in the pack; blocks and trees do not overlap, so that one names one. Only
 * verified ones may be put in. */
gboolean verified_cache_get_block(VerifiedCache *c, uint64_t offset, uint8_t ret[static VERITY_BLOCK_SIZE]);
void verified_cache_put_block(VerifiedCache *c, uint64_t offset,
                              const uint8_t block[static VERITY_BLOCK_SIZE]);

/* An unpacked chunk of a zstd blob. Not verified: its blocks are, each time that they are given out. */
typedef struct UnpackedChunk UnpackedChunk;
/* A reference to chunk @index of blob @blob (from 0). Who comes while another thread unpacks it waits for
 * that one.
 * @scratch: the calling thread's. */
UnpackedChunk *verified_cache_take_chunk(VerifiedCache *c, PackReader *r, uint32_t blob, uint64_t index,
                                         BlobBuffer *scratch, GCancellable *cancellable, GError **error);
const uint8_t *unpacked_chunk_data(const UnpackedChunk *chunk, size_t *ret_len);
/* pack_source_rung() when it was read. */
unsigned unpacked_chunk_rung(const UnpackedChunk *chunk);
void unpacked_chunk_unref(UnpackedChunk *chunk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(UnpackedChunk, unpacked_chunk_unref)
/* It was wrong: whoever wants it next unpacks it anew. */
void verified_cache_forget_chunk(VerifiedCache *c, uint32_t blob, uint64_t index);

/* What a thread needs while it reads. */
struct verified_tools {
        Hasher *hasher;
        BlobBuffer *scratch;
        uint8_t leaf[VERITY_BLOCK_SIZE];  /* the level-1 block over the blocks that are being read */
        uint8_t block[VERITY_BLOCK_SIZE]; /* one that is not wanted whole, or that ends the file */
};
struct verified_tools *verified_cache_take_tools(VerifiedCache *c);
void verified_cache_give_tools(VerifiedCache *c, struct verified_tools *t);
