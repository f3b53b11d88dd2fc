/* host-service/store/chunk_cut.c - content-defined cuts at block boundaries. */
#include "host-service/store/chunk_cut.h"

#include <string.h>

/* A chunk may begin with this block. */
static bool begins_chunk(Hasher *h, const uint8_t *block, size_t len)
{
        uint8_t digest[DIGEST_SIZE];

        hasher_sha256(h, block, len, digest);
        return digest[0] % (CHUNK_CUT_AVG / CHUNK_CUT_BLOCK) == 0;
}

size_t chunk_cut(Hasher *h, const uint8_t *data, size_t len)
{
        size_t at = CHUNK_CUT_MIN;

        for (; at < len && at < CHUNK_CUT_MAX; at += CHUNK_CUT_BLOCK)
                if (begins_chunk(h, data + at, MIN(CHUNK_CUT_BLOCK, len - at)))
                        break;
        return MIN(at, len);
}
