/* tests/unit/test_shm_pack_layout.c - a header is acted on only if every byte of it is as it must be. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <zlib.h>

#include "proto/limits.h"
#include "shm/pack_layout.h"

TestSuite(pack_layout, .timeout = 20);

static const struct pack_header good = {
        .pack_size = 4096 + 8192 + 100 + 50,
        .blobs_offset = 4096,
        .blobs_size = 8192,
        .manifest_offset = 12288,
        .manifest_size = 100,
        .signature_offset = 12388,
        .signature_size = 50,
        .manifest_digest = {1, 2, 3},
};

Test(pack_layout, what_is_formatted_parses_again)
{
        uint8_t buf[PACK_HEADER_SIZE];
        struct pack_header h;
        pack_header_format(&good, buf);
        cr_assert(eq(ptr, (void *)pack_header_parse(buf, good.pack_size, &h), NULL));
        cr_expect(eq(int, memcmp(&h, &good, sizeof h), 0));
        /* A window is larger than its pack. */
        cr_expect(eq(ptr, (void *)pack_header_parse(buf, 1 << 20, &h), NULL));
}

Test(pack_layout, any_flipped_bit_is_refused)
{
        uint8_t buf[PACK_HEADER_SIZE];
        struct pack_header h = {.pack_size = 77};
        pack_header_format(&good, buf);
        for (unsigned bit = 0; bit < PACK_HEADER_SIZE * 8; bit++) {
                buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
                cr_expect(ne(ptr, (void *)pack_header_parse(buf, UINT64_MAX, &h), NULL), "bit %u", bit);
                buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        cr_expect(eq(u64, h.pack_size, 77));
}

/* The checksum is right, what it covers is not. */
static void expect_refused(const struct pack_header *h, uint64_t source_size, const char *part)
{
        uint8_t buf[PACK_HEADER_SIZE];
        struct pack_header ret;
        pack_header_format(h, buf);
        const char *why = pack_header_parse(buf, source_size, &ret);
        cr_assert(ne(ptr, (void *)why, NULL), "accepted: %s", part);
        cr_expect(ne(ptr, strstr(why, part), NULL), "%s, not %s", why, part);
}

Test(pack_layout, ranges_that_do_not_fit_are_refused)
{
        struct pack_header h;
        expect_refused(&good, good.pack_size - 1, "cut off");
#define WITH(field, value, part) h = good, h.field = (value), expect_refused(&h, UINT64_MAX, part)
        WITH(pack_size, 4095, "smaller than the header");
        WITH(blobs_offset, 0, "behind the header");
        WITH(blobs_offset, 8192, "behind the header");
        WITH(blobs_size, UINT64_MAX - 4095, "blobs leave");
        WITH(blobs_size, 8191, "multiple of 4096");
        WITH(manifest_offset, 8192, "behind the blobs");
        WITH(manifest_offset, 0, "behind the blobs");
        WITH(manifest_size, 0, "manifest size");
        WITH(manifest_size, LIMIT_MANIFEST_BYTES + 1ull, "manifest size");
        WITH(manifest_size, UINT64_MAX, "manifest size");
        WITH(manifest_size, 101, "behind the manifest");
        WITH(manifest_size, 1000, "manifest leaves");
        WITH(signature_offset, 12387, "behind the manifest");
        WITH(signature_size, LIMIT_SIGNATURE_BYTES + 1, "signature size");
        WITH(signature_size, 49, "end with the pack");
        WITH(signature_size, 51, "end with the pack");
        WITH(pack_size, good.pack_size + 1, "end with the pack");
#undef WITH
}

static void expect_refused_bytes(size_t at, uint8_t value, const char *part)
{
        uint8_t buf[PACK_HEADER_SIZE];
        struct pack_header ret;
        pack_header_format(&good, buf);
        buf[at] = value;
        uint32_t crc = GUINT32_TO_LE((uint32_t)crc32(0, buf, 4092));
        memcpy(buf + 4092, &crc, 4);
        const char *why = pack_header_parse(buf, UINT64_MAX, &ret);
        cr_assert(ne(ptr, (void *)why, NULL));
        cr_expect(ne(ptr, strstr(why, part), NULL), "%s", why);
}

Test(pack_layout, formats_flags_and_reserved_bytes_that_are_not_known_are_refused)
{
        expect_refused_bytes(0, 'm', "does not begin like");
        expect_refused_bytes(8, 2, "format");
        expect_refused_bytes(12, 1, "flags");
        expect_refused_bytes(15, 0x80, "flags");
        expect_refused_bytes(104, 1, "reserved");
        expect_refused_bytes(4091, 1, "reserved");
}

Test(pack_layout, a_window_is_a_power_of_two_that_holds_the_pack)
{
        cr_expect(eq(u64, pack_window_size(1), 1 << 20));
        cr_expect(eq(u64, pack_window_size(1 << 20), 1 << 20));
        cr_expect(eq(u64, pack_window_size((1 << 20) + 1), 1 << 21));
        cr_expect(eq(u64, pack_window_size(UINT64_C(5) << 30), UINT64_C(8) << 30));
        cr_expect(eq(u64, pack_window_size(UINT64_MAX), UINT64_C(1) << 63));
}
