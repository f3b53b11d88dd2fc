/* common/verity_layout.c - where the blocks of a stored fs-verity Merkle tree lie. Pure. */
#include "common/verity_layout.h"

static uint64_t div_up(uint64_t n, uint64_t by)
{
        return n / by + (n % by != 0);
}

void verity_layout_init(struct verity_layout *ret, uint64_t file_size)
{
        uint64_t count[VERITY_LEVELS_MAX + 1];
        struct verity_layout l = {.n_data_blocks = div_up(file_size, VERITY_BLOCK_SIZE)};

        for (uint64_t n = l.n_data_blocks; n > 1; n = count[l.n_levels])
                count[++l.n_levels] = div_up(n, VERITY_HASHES_PER_BLOCK);
        for (unsigned level = l.n_levels; level > 0; level--) {
                l.start[level] = l.n_blocks;
                l.n_blocks += count[level];
        }
        *ret = l;
}

uint64_t verity_layout_stored_size(uint64_t file_size)
{
        struct verity_layout l;
        verity_layout_init(&l, file_size);
        return l.n_blocks * VERITY_BLOCK_SIZE;
}
