/* shm/pack_layout.c - the fixed part of the pack format: header to bytes and back, pure. */
#include "shm/pack_layout.h"

#include <string.h>
#include <zlib.h>

#include "proto/limits.h"

static uint32_t header_crc(const uint8_t buf[static PACK_HEADER_SIZE])
{
        return (uint32_t)crc32(0, buf, offsetof(struct pack_header_wire, crc));
}

static gboolean is_zero(const uint8_t *p, size_t len)
{
        uint8_t any = 0;
        for (size_t i = 0; i < len; i++)
                any |= p[i];
        return any == 0;
}

/* Header, blobs, manifest, signature: each begins where the one before ends, so nothing can overlap or hide.
 */
static const char *ranges_refusal(const struct pack_header *h, uint64_t source_size)
{
        if (h->pack_size > source_size)
                return "the pack is longer than what holds it: it was cut off";
        if (h->pack_size < PACK_HEADER_SIZE)
                return "pack size is smaller than the header";
        if (h->blobs_offset != PACK_HEADER_SIZE)
                return "blobs do not begin behind the header";
        if (h->blobs_size > h->pack_size - h->blobs_offset)
                return "blobs leave the pack";
        if (h->blobs_size % PACK_ALIGN != 0)
                return "size of the blobs is not a multiple of 4096";
        if (h->manifest_offset != h->blobs_offset + h->blobs_size)
                return "manifest does not begin behind the blobs";
        if (h->manifest_size == 0 || h->manifest_size > LIMIT_MANIFEST_BYTES)
                return "manifest size is out of range";
        if (h->manifest_size > h->pack_size - h->manifest_offset)
                return "manifest leaves the pack";
        if (h->signature_offset != h->manifest_offset + h->manifest_size)
                return "signature does not begin behind the manifest";
        if (h->signature_size > LIMIT_SIGNATURE_BYTES)
                return "signature size is out of range";
        if (h->signature_size != h->pack_size - h->signature_offset)
                return "signature does not end with the pack";
        return NULL;
}

const char *pack_header_parse(const uint8_t buf[static PACK_HEADER_SIZE], uint64_t source_size,
                              struct pack_header *ret)
{
        struct pack_header_wire wire;
        memcpy(&wire, buf, sizeof wire);

        if (memcmp(wire.magic, PACK_MAGIC, sizeof wire.magic) != 0)
                return "it does not begin like a moult pack";
        if (GUINT32_FROM_LE(wire.crc) != header_crc(buf))
                return "the header's checksum is wrong";
        if (GUINT32_FROM_LE(wire.format) != PACK_FORMAT)
                return "the pack's format is not known to this version of moult";
        if (wire.flags != 0)
                return "the header has flags that this version of moult does not know";
        if (!is_zero(wire.reserved, sizeof wire.reserved))
                return "reserved bytes of the header are set";

        struct pack_header h = {
                .pack_size = GUINT64_FROM_LE(wire.pack_size),
                .blobs_offset = GUINT64_FROM_LE(wire.blobs_offset),
                .blobs_size = GUINT64_FROM_LE(wire.blobs_size),
                .manifest_offset = GUINT64_FROM_LE(wire.manifest_offset),
                .manifest_size = GUINT64_FROM_LE(wire.manifest_size),
                .signature_offset = GUINT64_FROM_LE(wire.signature_offset),
                .signature_size = GUINT64_FROM_LE(wire.signature_size),
        };
        const char *why = ranges_refusal(&h, source_size);
        if (why != NULL)
                return why;
        memcpy(h.manifest_digest, wire.manifest_digest, DIGEST_SIZE);
        *ret = h;
        return NULL;
}

void pack_header_format(const struct pack_header *h, uint8_t ret[static PACK_HEADER_SIZE])
{
        struct pack_header_wire wire = {
                .magic = PACK_MAGIC,
                .format = GUINT32_TO_LE(PACK_FORMAT),
                .pack_size = GUINT64_TO_LE(h->pack_size),
                .blobs_offset = GUINT64_TO_LE(h->blobs_offset),
                .blobs_size = GUINT64_TO_LE(h->blobs_size),
                .manifest_offset = GUINT64_TO_LE(h->manifest_offset),
                .manifest_size = GUINT64_TO_LE(h->manifest_size),
                .signature_offset = GUINT64_TO_LE(h->signature_offset),
                .signature_size = GUINT64_TO_LE(h->signature_size),
        };
        memcpy(wire.manifest_digest, h->manifest_digest, DIGEST_SIZE);
        memcpy(ret, &wire, sizeof wire);
        uint32_t crc = GUINT32_TO_LE(header_crc(ret));
        memcpy(ret + offsetof(struct pack_header_wire, crc), &crc, sizeof crc);
}

uint64_t pack_window_size(uint64_t pack_size)
{
        uint64_t size = 1024u * 1024u;
        while (size < pack_size && size <= G_MAXUINT64 / 2)
                size *= 2;
        return size;
}
