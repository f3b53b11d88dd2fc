/* tests/unit/test_shm_stream_copy.c - the streaming copy is a memcpy. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdint.h>
#include <string.h>

#include "shm/stream_copy.h"

TestSuite(stream_copy, .timeout = 60);

Test(stream_copy, is_a_memcpy_for_every_alignment)
{
        uint8_t src[600], dst[600], expected[600];
        for (size_t i = 0; i < sizeof src; i++)
                src[i] = (uint8_t)(i * 13 / 3);
        for (size_t from = 0; from < 70; from++)
                for (size_t to = 0; to < 20; to += 3)
                        for (size_t len = 0; len < 300; len += 7) {
                                memset(dst, 0xee, sizeof dst);
                                memset(expected, 0xee, sizeof expected);
                                memcpy(expected + to, src + from, len);
                                stream_copy(dst + to, src + from, len);
                                cr_assert(eq(int, memcmp(dst, expected, sizeof dst), 0));
                        }
}
