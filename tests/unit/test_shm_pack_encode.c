/* tests/unit/test_shm_pack_encode.c - chunks come back in order, hashed, and compressed only where it helps.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <zstd.h>

#include "shm/pack_encode.h"

TestSuite(pack_encode, .timeout = 60);

static struct encoder_chunk *chunk(gpointer file, char fill, size_t len)
{
        struct encoder_chunk *c = g_new0(struct encoder_chunk, 1);
        c->file = file;
        c->raw = (uint8_t *)g_strnfill(len, fill);
        c->raw_len = len;
        return c;
}

Test(pack_encode, chunks_come_back_in_the_order_in_which_they_went)
{
        /* Large and small in turn: a small one is ready long before the large one ahead of it. */
        g_autoptr(Encoder) e = encoder_new(3);
        for (unsigned i = 0; i < 40; i++) {
                struct encoder_chunk *c =
                        chunk(GUINT_TO_POINTER(i), (char)('a' + i % 20), i % 2 == 0 ? CHUNK_SIZE / 2 : 10);
                c->how = ENCODE_ALWAYS;
                encoder_push(e, c);
        }
        for (unsigned i = 0; i < 40; i++) {
                struct encoder_chunk *c = encoder_pull(e);
                g_autofree uint8_t *back = g_malloc(CHUNK_SIZE);
                cr_assert(eq(u32, GPOINTER_TO_UINT(c->file), i));
                cr_expect(eq(sz, ZSTD_decompress(back, CHUNK_SIZE, c->zstd, c->zstd_len), c->raw_len));
                cr_expect(eq(int, memcmp(back, c->raw, c->raw_len), 0));
                encoder_chunk_free(c);
        }
        cr_expect(eq(ptr, encoder_pull(e), NULL));
}

Test(pack_encode, what_does_not_shrink_comes_back_raw_unless_it_must_not)
{
        g_autoptr(Encoder) e = encoder_new(3);
        struct encoder_chunk *c = chunk(NULL, 'x', 12);
        memcpy(c->raw, "qwertzuiop12", 12);
        c->how = ENCODE_IF_SMALLER;
        encoder_push(e, c);
        c = chunk(NULL, 'x', 12);
        c->how = ENCODE_ALWAYS;
        encoder_push(e, c);
        c = encoder_pull(e);
        cr_expect(eq(sz, c->zstd_len, 0));
        encoder_chunk_free(c);
        c = encoder_pull(e);
        cr_expect(gt(sz, c->zstd_len, 0));
        encoder_chunk_free(c);
}

Test(pack_encode, level_0_compresses_nothing)
{
        g_autoptr(Encoder) e = encoder_new(0);
        struct encoder_chunk *c = chunk(NULL, 'x', 1000);
        c->how = ENCODE_IF_SMALLER;
        encoder_push(e, c);
        c = encoder_pull(e);
        cr_expect(eq(sz, c->zstd_len, 0));
        cr_expect(not(encoder_shrinks(e, c->raw, c->raw_len)));
        encoder_chunk_free(c);
}

Test(pack_encode, it_is_full_before_memory_is)
{
        g_autoptr(Encoder) e = encoder_new(0);
        unsigned n = 0;
        while (!encoder_is_full(e)) {
                encoder_push(e, chunk(NULL, 'x', CHUNK_SIZE));
                cr_assert(le(u32, ++n, 64));
        }
        encoder_chunk_free(encoder_pull(e));
        cr_expect(not(encoder_is_full(e)));
        /* The rest is freed with the encoder, though workers may still have it. */
}

Test(pack_encode, a_chunk_is_hashed_into_its_tree)
{
        g_autoptr(Encoder) e = encoder_new(3);
        g_autoptr(Hasher) h = hasher_new();
        g_autoptr(VerityTree) t = verity_tree_new(5000);
        uint8_t digest[DIGEST_SIZE], expected[DIGEST_SIZE];
        struct encoder_chunk *c = chunk(NULL, 'x', 5000);
        c->tree = t;
        encoder_push(e, c);
        c = encoder_pull(e);
        verity_tree_digest(t, h, digest);
        verity_digest_buffer(h, c->raw, c->raw_len, expected);
        cr_expect(eq(int, memcmp(digest, expected, sizeof digest), 0));
        encoder_chunk_free(c);
}
