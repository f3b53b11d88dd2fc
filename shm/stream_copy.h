/* shm/stream_copy.h - memcpy from write-combined or uncached memory: non-temporal 16-byte loads (MOVNTDQA,
 * SSE4.1) where the CPU has them, in large runs; plain memcpy else. On ordinary memory it is as fast as
 * memcpy. */
#pragma once

#include <stddef.h>

void stream_copy(void *restrict dst, const void *restrict src, size_t len);
