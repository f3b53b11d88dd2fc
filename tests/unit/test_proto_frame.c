/* tests/unit/test_proto_frame.c - frames are found in whatever a reopened port delivers, and nothing else is.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "proto/frame.h"
#include "proto/limits.h"

TestSuite(frame, .timeout = 30);

static void put(GByteArray *stream, const void *data, size_t len)
{
        g_byte_array_append(stream, data, (guint)len);
}

static void put_frame(GByteArray *stream, const char *text)
{
        g_autoptr(GBytes) f = frame_encode(text, strlen(text));

        put(stream, g_bytes_get_data(f, NULL), g_bytes_get_size(f));
}

/* All payloads, joined by '|'. */
static char *parse(const GByteArray *stream, size_t step)
{
        g_autoptr(FrameParser) p = frame_parser_new();
        GString *got = g_string_new(NULL);

        for (size_t i = 0; i < stream->len; i += step) {
                frame_parser_push(p, stream->data + i, MIN(step, stream->len - i));
                for (GBytes *b; (b = frame_parser_pull(p)); g_bytes_unref(b)) {
                        g_string_append_len(got, g_bytes_get_data(b, NULL), (gssize)g_bytes_get_size(b));
                        g_string_append_c(got, '|');
                }
        }
        return g_string_free(got, FALSE);
}

static void expect(const GByteArray *stream, const char *payloads)
{
        static const size_t steps[] = {1, 2, 3, 7, 15, 16, 17, 64, 1u << 20};

        for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
                g_autofree char *got = parse(stream, steps[i]);

                cr_expect(eq(str, got, (char *)payloads));
        }
}

Test(frame, layout_is_the_documented_one)
{
        g_autoptr(GBytes) f = frame_encode("abc", 3);
        const guint8 *d = g_bytes_get_data(f, NULL);
        guint32 crc = (guint32)crc32(0, (const Bytef *)"abc", 3), header_crc = (guint32)crc32(0, d, 12);

        cr_assert(eq(sz, g_bytes_get_size(f), 19));
        cr_expect(zero(int, memcmp(d, "MLT1\x03\0\0\0", 8)));
        for (int i = 0; i < 4; i++) {
                cr_expect(eq(u8, d[8 + i], (guint8)(crc >> 8 * i)));
                cr_expect(eq(u8, d[12 + i], (guint8)(header_crc >> 8 * i)));
        }
        cr_expect(zero(int, memcmp(d + 16, "abc", 3)));
}

Test(frame, comes_out_however_the_stream_is_cut)
{
        g_autoptr(GByteArray) s = g_byte_array_new();

        put_frame(s, "one");
        put_frame(s, "");
        put_frame(s, "three");
        expect(s, "one||three|");
}

Test(frame, is_found_behind_noise_and_false_magic)
{
        g_autoptr(GByteArray) s = g_byte_array_new();

        put(s, "noiseMMLMLTMLT1MLT1", 19);
        put_frame(s, "one");
        put(s, "MLT1\0\0\0\0\0\0\0\0\0\0\0\0", 16); /* a header in all but its CRC */
        put_frame(s, "two");
        put(s, "ML", 2);
        put_frame(s, "three");
        expect(s, "one|two|three|");
}

Test(frame, tail_of_an_old_frame_is_skipped)
{
        g_autoptr(GByteArray) s = g_byte_array_new();
        g_autoptr(GBytes) old = frame_encode("an old frame", 12);

        put(s, (const guint8 *)g_bytes_get_data(old, NULL) + 9, g_bytes_get_size(old) - 9);
        put_frame(s, "new");
        expect(s, "new|");
}

Test(frame, with_a_flipped_bit_anywhere_is_never_delivered)
{
        g_autoptr(GBytes) f = frame_encode("payload", 7);
        gsize len = g_bytes_get_size(f);

        for (gsize bit = 0; bit < len * 8; bit++) {
                g_autoptr(GByteArray) s = g_byte_array_new();
                g_autofree char *got = NULL;

                put(s, g_bytes_get_data(f, NULL), len);
                s->data[bit / 8] ^= (guint8)(1u << bit % 8);
                got = parse(s, 1u << 20);
                cr_expect(eq(str, got, ""), "bit %zu", bit);
        }
}

Test(frame, with_a_bad_payload_is_skipped_whole_and_the_next_one_comes)
{
        g_autoptr(GByteArray) s = g_byte_array_new();

        put_frame(s, "bad");
        s->data[s->len - 1] ^= 1;
        put_frame(s, "good");
        expect(s, "good|");
}

Test(frame, inside_a_damaged_frame_is_not_believed)
{
        g_autoptr(GByteArray) s = g_byte_array_new();
        g_autoptr(GBytes) inner = frame_encode("inner", 5);
        g_autoptr(GByteArray) file = g_byte_array_new();
        g_autoptr(GBytes) outer = NULL;

        put(file, g_bytes_get_data(inner, NULL), g_bytes_get_size(inner));
        put(file, "x", 1);
        outer = frame_encode(file->data, file->len);
        put(s, g_bytes_get_data(outer, NULL), g_bytes_get_size(outer));
        s->data[s->len - 1] ^= 1;
        put_frame(s, "next");
        expect(s, "next|");
}

Test(frame, longer_than_the_limit_is_noise_even_with_a_good_header)
{
        g_autoptr(GByteArray) s = g_byte_array_new();
        guint32 fields[2] = {GUINT32_TO_LE(LIMIT_FRAME_PAYLOAD + 1), 0}, crc;

        put(s, "MLT1", 4);
        put(s, fields, sizeof fields);
        crc = GUINT32_TO_LE((guint32)crc32(0, s->data, s->len));
        put(s, &crc, sizeof crc);
        put_frame(s, "next");
        expect(s, "next|");
}

Test(frame, of_the_largest_size_passes)
{
        g_autofree guint8 *payload = g_malloc0(LIMIT_FRAME_PAYLOAD);
        g_autoptr(GBytes) f = frame_encode(payload, LIMIT_FRAME_PAYLOAD), got = NULL;
        g_autoptr(FrameParser) p = frame_parser_new();

        frame_parser_push(p, g_bytes_get_data(f, NULL), g_bytes_get_size(f));
        got = frame_parser_pull(p);
        cr_assert(ne(ptr, got, NULL));
        cr_expect(eq(sz, g_bytes_get_size(got), LIMIT_FRAME_PAYLOAD));
        cr_expect(zero(sz, frame_parser_pending(p)));
}

Test(frame, noise_is_counted_in_front_of_the_frame_pulled_last)
{
        g_autoptr(GByteArray) s = g_byte_array_new();
        g_autoptr(FrameParser) p = frame_parser_new();

        put(s, "12345", 5);
        put_frame(s, "one");
        put_frame(s, "two");
        put(s, "1234567", 7);
        frame_parser_push(p, s->data, s->len);
        g_bytes_unref(frame_parser_pull(p));
        cr_expect(eq(u64, frame_parser_noise(p), 5));
        g_bytes_unref(frame_parser_pull(p));
        cr_expect(zero(u64, frame_parser_noise(p)));
        cr_expect(eq(ptr, frame_parser_pull(p), NULL));
        cr_expect(eq(u64, frame_parser_noise(p), 7));
}

Test(frame, half_one_is_pending_until_it_is_forgotten)
{
        g_autoptr(GBytes) f = frame_encode("abcdef", 6), got = NULL;
        g_autoptr(FrameParser) p = frame_parser_new();
        const guint8 *d = g_bytes_get_data(f, NULL);

        frame_parser_push(p, d, 18);
        cr_expect(eq(ptr, frame_parser_pull(p), NULL));
        cr_expect(eq(sz, frame_parser_pending(p), 18));
        cr_expect(zero(u64, frame_parser_noise(p)));
        frame_parser_reset(p);
        cr_expect(zero(sz, frame_parser_pending(p)));
        frame_parser_push(p, d, g_bytes_get_size(f));
        got = frame_parser_pull(p);
        cr_expect(ne(ptr, got, NULL));
}

/* --- packed --- */

static GBytes *text_of(gsize len)
{
        GString *s = g_string_new(NULL);

        while (s->len < len)
                g_string_append_printf(s, "usr/share/doc/number-%x ",
                                       g_str_hash(s->str + s->len - MIN(s->len, 30)));
        g_string_truncate(s, len);
        return g_string_free_to_bytes(s);
}

static GBytes *noise_of(gsize len)
{
        g_autoptr(GRand) r = g_rand_new_with_seed(5);
        guint8 *d = g_malloc(len);

        for (gsize i = 0; i < len; i++)
                d[i] = (guint8)g_rand_int(r);
        return g_bytes_new_take(d, len);
}

static gboolean comes_back_by(GBytes *payload, enum packing_effort effort, gsize *ret_frame)
{
        g_autoptr(GBytes) f =
                frame_encode_packed(g_bytes_get_data(payload, NULL), g_bytes_get_size(payload), effort),
                          got = NULL;
        g_autoptr(FrameParser) p = frame_parser_new();

        *ret_frame = g_bytes_get_size(f);
        frame_parser_push(p, g_bytes_get_data(f, NULL), *ret_frame);
        got = frame_parser_pull(p);
        return got && g_bytes_equal(got, payload);
}

static gboolean comes_back(GBytes *payload, gsize *ret_frame)
{
        return comes_back_by(payload, PACKING_SMALL, ret_frame);
}

Test(frame, packed_quickly_is_the_same_payload_and_smaller_too)
{
        g_autoptr(GBytes) text = text_of(LIMIT_FRAME_PAYLOAD / 2);
        gsize quick;

        cr_expect(comes_back_by(text, PACKING_QUICK, &quick));
        cr_expect(lt(sz, quick, LIMIT_FRAME_PAYLOAD / 4));
}

Test(frame, packed_is_smaller_and_the_same_payload_comes_out)
{
        static const gsize sizes[] = {0, 1, 255, 256, 4096, 32768, LIMIT_FRAME_PAYLOAD};

        for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_autoptr(GBytes) text = text_of(sizes[i]), noise = noise_of(sizes[i]);
                gsize n;

                cr_expect(comes_back(text, &n), "%zu bytes of text", sizes[i]);
                if (sizes[i] >= 4096)
                        cr_expect(lt(sz, n, sizes[i] / 2));
                cr_expect(comes_back(noise, &n), "%zu bytes of noise", sizes[i]);
                cr_expect(eq(sz, n, sizes[i] + FRAME_HEADER_SIZE), "what does not get smaller goes as it is");
        }
}

Test(frame, what_would_unpack_to_too_much_goes_as_it_is)
{
        g_autofree guint8 *zeros = g_malloc0(LIMIT_FRAME_PAYLOAD);
        g_autoptr(GBytes) payload = g_bytes_new_static(zeros, LIMIT_FRAME_PAYLOAD);
        gsize n;

        cr_expect(comes_back(payload, &n));
        cr_expect(eq(sz, n, LIMIT_FRAME_PAYLOAD + FRAME_HEADER_SIZE));
}

/* A frame that says it is packed, with these bytes. */
static GBytes *forged(const void *stored, gsize len)
{
        g_autoptr(GBytes) plain = frame_encode(stored, len);
        gsize n;
        guint8 *d = g_bytes_unref_to_data(g_steal_pointer(&plain), &n);
        guint32 crc;

        d[7] |= 0x80;
        crc = GUINT32_TO_LE((guint32)crc32(0, d, 12));
        memcpy(d + 12, &crc, sizeof crc);
        return g_bytes_new_take(d, n);
}

static void expect_noise(const void *stored, gsize len, const char *what)
{
        g_autoptr(GBytes) f = forged(stored, len), good = frame_encode("after", 5), got = NULL;
        g_autoptr(FrameParser) p = frame_parser_new();

        frame_parser_push(p, g_bytes_get_data(f, NULL), g_bytes_get_size(f));
        frame_parser_push(p, g_bytes_get_data(good, NULL), g_bytes_get_size(good));
        got = frame_parser_pull(p);
        cr_assert(ne(ptr, got, NULL), "%s", what);
        cr_expect(eq(sz, g_bytes_get_size(got), 5), "%s", what);
        cr_expect(eq(u64, frame_parser_noise(p), g_bytes_get_size(f)), "%s", what);
}

Test(frame, that_cannot_be_unpacked_is_noise_as_a_whole)
{
        g_autofree guint8 *zeros = g_malloc0(LIMIT_FRAME_PAYLOAD + 1);
        guint8 packed[8192], twice[16384];
        gsize n = ZSTD_compress(packed, sizeof packed, zeros, 4000, 3);

        memcpy(twice, packed, n);
        memcpy(twice + n, packed, n);
        expect_noise(packed, n - 1, "cut off");
        expect_noise(twice, 2 * n, "two frames");
        expect_noise("", 0, "nothing");
        expect_noise("plain text", 10, "no frame of zstd's");
        n = ZSTD_compress(packed, sizeof packed, zeros, 100000, 3);
        expect_noise(packed, n, "more than its size may become");
        n = ZSTD_compress(packed, sizeof packed, zeros, LIMIT_FRAME_PAYLOAD + 1, 3);
        expect_noise(packed, n, "more than a payload");
}
