/* shm/stream_copy.c - memcpy from write-combined or uncached memory. */
#include "shm/stream_copy.h"

#include <stdint.h>
#include <string.h>

#ifdef __x86_64__
#include <smmintrin.h>

#define LINE 64u /* a streaming load fetches a whole line: its four quarters are taken together */

__attribute__((target("sse4.1"))) static void copy_sse41(uint8_t *restrict dst, const uint8_t *restrict src,
                                                         size_t len)
{
        size_t head = (LINE - (uintptr_t)src % LINE) % LINE;
        if (head > len)
                head = len;
        memcpy(dst, src, head);
        dst += head;
        src += head;
        len -= head;
        for (; len >= LINE; len -= LINE, src += LINE, dst += LINE) {
                /* The intrinsic takes a plain pointer, though it only reads. */
                __m128i *line = (__m128i *)(uintptr_t)src;
                __m128i a = _mm_stream_load_si128(line), b = _mm_stream_load_si128(line + 1);
                __m128i c = _mm_stream_load_si128(line + 2), d = _mm_stream_load_si128(line + 3);
                _mm_storeu_si128((__m128i *)dst, a);
                _mm_storeu_si128((__m128i *)dst + 1, b);
                _mm_storeu_si128((__m128i *)dst + 2, c);
                _mm_storeu_si128((__m128i *)dst + 3, d);
        }
        memcpy(dst, src, len);
}
#endif

void stream_copy(void *restrict dst, const void *restrict src, size_t len)
{
#ifdef __x86_64__
        if (__builtin_cpu_supports("sse4.1")) {
                copy_sse41(dst, src, len);
                return;
        }
#endif
        memcpy(dst, src, len);
}
