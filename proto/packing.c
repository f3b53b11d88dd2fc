/* proto/packing.c - a frame's payload, made smaller with zstd where that pays. */
#include "proto/packing.h"

#include <zstd.h>

#include "proto/limits.h"

#define LEVEL_SMALL  9
#define LEVEL_QUICK  1 /* a fifth of the time of 9, for an eighth more bytes (decision 0025) */
#define LEVEL_PROBE  1
#define SHORTEST     256u   /* below, a frame's head and the call cost more than is won */
#define PROBED       32768u /* payloads above are looked at in one place first: most are packed already */
#define PROBE_BYTES  4096u
#define MARGIN_SHARE 16u

gsize packing_limit(gsize stored)
{
        return MIN(stored * LIMIT_PACKED_RATIO + LIMIT_PACKED_FREE, LIMIT_FRAME_PAYLOAD);
}

static gboolean pays(gsize packed, gsize len)
{
        return !ZSTD_isError(packed) && packed < len - len / MARGIN_SHARE;
}

/* Contents of files are packed in the pack, or cannot be: to find that out must not cost the time of trying.
 */
static gboolean promises(const guint8 *payload, gsize len)
{
        guint8 buf[ZSTD_COMPRESSBOUND(PROBE_BYTES)];

        if (len < PROBED)
                return TRUE;
        return pays(ZSTD_compress(buf, sizeof buf, payload + len / 2, PROBE_BYTES, LEVEL_PROBE), PROBE_BYTES);
}

GBytes *packing_pack(const void *payload, gsize len, enum packing_effort effort)
{
        g_autofree guint8 *dst = NULL;
        gsize n;

        if (len < SHORTEST || !promises(payload, len))
                return NULL;
        dst = g_malloc(ZSTD_COMPRESSBOUND(len));
        n = ZSTD_compress(dst, ZSTD_COMPRESSBOUND(len), payload, len,
                          effort == PACKING_QUICK ? LEVEL_QUICK : LEVEL_SMALL);
        if (!pays(n, len) || len > packing_limit(n))
                return NULL;
        return g_bytes_new_take(g_realloc(g_steal_pointer(&dst), n), n);
}

GBytes *packing_unpack(const void *stored, gsize len)
{
        unsigned long long size = ZSTD_getFrameContentSize(stored, len);
        g_autofree guint8 *dst = NULL;

        /* The two special values are above every limit. */
        if (size > packing_limit(len) || ZSTD_findFrameCompressedSize(stored, len) != len)
                return NULL;
        dst = g_malloc((gsize)size + 1);
        if (ZSTD_decompress(dst, (gsize)size, stored, len) != size)
                return NULL;
        return g_bytes_new_take(g_steal_pointer(&dst), (gsize)size);
}
