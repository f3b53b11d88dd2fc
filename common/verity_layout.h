/* common/verity_layout.h - where the blocks of a stored fs-verity Merkle tree lie. Pure.
 *
 * Level 0 are the file's own blocks; they are no part of what is stored. A block of level n + 1 holds the
 * digests of 128 blocks of level n. The stored tree is what the kernel stores and `fsverity dump_metadata
 * merkle_tree` prints: the only block of the top level first, then each level down to level 1, blocks in
 * order, nothing between. A file of at most one block has no hash blocks: its block's digest is the root. */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "common/digest.h"

#define VERITY_HASHES_PER_BLOCK (VERITY_BLOCK_SIZE / DIGEST_SIZE) /* 128 */
#define VERITY_LEVELS_MAX       8u                                /* enough for 2^64 bytes */

struct verity_layout {
        uint64_t n_data_blocks;
        unsigned n_levels;                     /* of hash blocks; the root's is level n_levels */
        uint64_t start[VERITY_LEVELS_MAX + 1]; /* of a level: its first block's index; [0] is not used */
        uint64_t n_blocks;                     /* of the stored tree, at most 2^52 */
};

void verity_layout_init(struct verity_layout *ret, uint64_t file_size);
/* Bytes that the stored tree of such a file takes; 0 for a file of at most one block. */
uint64_t verity_layout_stored_size(uint64_t file_size);
