/* shm/pack_layout.h - the fixed part of the pack format; docs/pack-format.md is the specification. */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "common/digest.h"

#define PACK_MAGIC         "MOULTPK1"
#define PACK_FORMAT        1u
#define PACK_HEADER_SIZE   4096u
#define PACK_ALIGN         4096u
#define PACK_SIGNED_PREFIX "moult pack v1\n"

/* On disk: little-endian, packed by construction. */
struct pack_header_wire {
        uint8_t magic[8];
        uint32_t format;
        uint32_t flags;        /* 0; a reader refuses unknown bits */
        uint64_t pack_size;    /* without padding */
        uint64_t blobs_offset; /* 4096 */
        uint64_t blobs_size;
        uint64_t manifest_offset;
        uint64_t manifest_size;
        uint64_t signature_offset;
        uint64_t signature_size;
        uint8_t manifest_digest[DIGEST_SIZE]; /* SHA-256 of the manifest's bytes */
        uint8_t reserved[3988];               /* 0 */
        uint32_t crc;                         /* CRC-32 (IEEE, zlib) of the 4092 bytes before */
} __attribute__((packed));
G_STATIC_ASSERT(sizeof(struct pack_header_wire) == PACK_HEADER_SIZE);

struct pack_header {
        uint64_t pack_size;
        uint64_t blobs_offset, blobs_size;
        uint64_t manifest_offset, manifest_size;
        uint64_t signature_offset, signature_size;
        uint8_t manifest_digest[DIGEST_SIZE];
};

/* Pure: NULL and *ret set, or why the 4096 bytes are not a header that may be acted on. @source_size is the
 * size of what the header was read from. */
const char *pack_header_parse(const uint8_t buf[static PACK_HEADER_SIZE], uint64_t source_size,
                              struct pack_header *ret);
void pack_header_format(const struct pack_header *h, uint8_t ret[static PACK_HEADER_SIZE]);

/* Size that a pack's shared-memory window must have: PCI BARs are powers of two, at least 1 MiB here. Whoever
 * plugs the pack extends its file sparsely to this size first. */
uint64_t pack_window_size(uint64_t pack_size);
