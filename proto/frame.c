/* proto/frame.c - finds frames in a byte stream that may hold noise. */
#include "proto/frame.h"

#include <string.h>
#include <zlib.h>

#include "proto/limits.h"
#include "proto/packing.h"

static const guint8 magic[4] = {'M', 'L', 'T', '1'};

struct frame_header {
        guint8 magic[4];
        guint32 length; /* all little-endian */
        guint32 payload_crc;
        guint32 header_crc;
};
G_STATIC_ASSERT(sizeof(struct frame_header) == FRAME_HEADER_SIZE);
#define HEADER_CRC_BYTES G_STRUCT_OFFSET(struct frame_header, header_crc)

/* In the length: the payload is packed. */
#define PACKED 0x80000000u

#define KEEP_BYTES (128u * 1024u)

struct FrameParser {
        GByteArray *buf;
        size_t start; /* bytes of buf that are already consumed */
        uint64_t noise;
        gboolean frame_pulled; /* the next pull begins to count noise anew */
};

static guint32 crc_of(const void *data, size_t len)
{
        return (guint32)crc32_z(crc32_z(0, NULL, 0), data, len);
}

static GBytes *encode(const void *payload, size_t len, guint32 flags)
{
        struct frame_header h;
        guint8 *frame;

        g_assert(len <= LIMIT_FRAME_PAYLOAD);
        memcpy(h.magic, magic, sizeof magic);
        h.length = GUINT32_TO_LE((guint32)len | flags);
        h.payload_crc = GUINT32_TO_LE(crc_of(payload, len));
        h.header_crc = GUINT32_TO_LE(crc_of(&h, HEADER_CRC_BYTES));

        frame = g_malloc(sizeof h + len);
        memcpy(frame, &h, sizeof h);
        if (len > 0)
                memcpy(frame + sizeof h, payload, len);
        return g_bytes_new_take(frame, sizeof h + len);
}

GBytes *frame_encode(const void *payload, size_t len)
{
        return encode(payload, len, 0);
}

GBytes *frame_encode_packed(const void *payload, size_t len, enum packing_effort effort)
{
        g_autoptr(GBytes) packed = packing_pack(payload, len, effort);

        if (!packed)
                return encode(payload, len, 0);
        return encode(g_bytes_get_data(packed, NULL), g_bytes_get_size(packed), PACKED);
}

FrameParser *frame_parser_new(void)
{
        FrameParser *p = g_new0(FrameParser, 1);

        p->buf = g_byte_array_new();
        return p;
}

void frame_parser_free(FrameParser *p)
{
        if (!p)
                return;
        g_byte_array_unref(p->buf);
        g_free(p);
}

void frame_parser_reset(FrameParser *p)
{
        g_byte_array_set_size(p->buf, 0);
        p->start = 0;
        p->noise = 0;
        p->frame_pulled = FALSE;
}

void frame_parser_push(FrameParser *p, const void *data, size_t len)
{
        /* Moving the rest to the front once per push keeps the buffer at one frame plus one push. */
        if (p->start > 0) {
                g_byte_array_remove_range(p->buf, 0, (guint)p->start);
                p->start = 0;
        }
        if (len > 0)
                g_byte_array_append(p->buf, data, (guint)len);
}

/* How many of the first bytes cannot begin a frame. */
static size_t garbage_before_magic(const guint8 *data, size_t len)
{
        size_t i = 0;

        while (i < len) {
                const guint8 *m = memchr(data + i, magic[0], len - i);
                if (!m)
                        return len;
                i = (size_t)(m - data);
                if (memcmp(m, magic, MIN(sizeof magic, len - i)) == 0)
                        return i;
                i++;
        }
        return len;
}

static void skip(FrameParser *p, size_t len)
{
        p->start += len;
        p->noise += len;
}

/* A GByteArray never shrinks; a parser that sits idle for weeks after one large frame should. */
static void give_memory_back(FrameParser *p)
{
        if (p->buf->len < KEEP_BYTES)
                return;
        g_byte_array_unref(p->buf);
        p->buf = g_byte_array_new();
        p->start = 0;
}

/* NULL: damaged. */
static GBytes *payload_of(const struct frame_header *h, const guint8 *data, size_t length)
{
        if (GUINT32_FROM_LE(h->payload_crc) != crc_of(data, length))
                return NULL;
        return GUINT32_FROM_LE(h->length) & PACKED ? packing_unpack(data, length) : g_bytes_new(data, length);
}

GBytes *frame_parser_pull(FrameParser *p)
{
        if (p->frame_pulled) {
                p->noise = 0;
                p->frame_pulled = FALSE;
        }
        for (;;) {
                const guint8 *data;
                size_t left, length;
                struct frame_header h;
                GBytes *payload;

                if (p->start == p->buf->len) {
                        give_memory_back(p);
                        return NULL;
                }
                data = p->buf->data + p->start;
                skip(p, garbage_before_magic(data, p->buf->len - p->start));
                left = p->buf->len - p->start;
                if (left < sizeof h)
                        return NULL;
                data = p->buf->data + p->start;
                memcpy(&h, data, sizeof h);
                length = GUINT32_FROM_LE(h.length) & ~PACKED;
                if (GUINT32_FROM_LE(h.header_crc) != crc_of(&h, HEADER_CRC_BYTES) ||
                    length > LIMIT_FRAME_PAYLOAD) {
                        skip(p, 1);
                        continue;
                }
                if (length > left - sizeof h)
                        return NULL;
                data += sizeof h;
                payload = payload_of(&h, data, length);
                if (!payload) {
                        skip(p, sizeof h + length);
                        continue;
                }
                p->start += sizeof h + length;
                p->frame_pulled = TRUE;
                return payload;
        }
}

uint64_t frame_parser_noise(const FrameParser *p)
{
        return p->noise;
}

size_t frame_parser_pending(const FrameParser *p)
{
        return p->buf->len - p->start;
}
