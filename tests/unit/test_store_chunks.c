/* tests/unit/test_store_chunks.c - cutting, the list of chunks, packing; pauses between attempts. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "host-service/store/chunk_cut.h"
#include "host-service/store/chunk_file.h"
#include "host-service/store/transfer.h"

TestSuite(store_chunks, .timeout = 60);

#define BLOCKS 2000u

/* Bytes that are the same in every run. */
static uint8_t *noise(size_t len, uint32_t seed)
{
        uint8_t *b = g_malloc(len);

        for (size_t i = 0; i < len; i++) {
                seed = seed * 1664525u + 1013904223u;
                b[i] = (uint8_t)(seed >> 24);
        }
        return b;
}

/* Names of the chunks, as a set. */
static GHashTable *cut_all(const uint8_t *data, size_t len, guint *ret_n)
{
        g_autoptr(Hasher) h = hasher_new();
        GHashTable *names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

        *ret_n = 0;
        for (size_t at = 0; at < len; ++*ret_n) {
                size_t n = chunk_cut(h, data + at, len - at);
                uint8_t id[DIGEST_SIZE];
                char hex[2 * DIGEST_SIZE + 1];

                cr_assert(n > 0 && n <= CHUNK_CUT_MAX && (n >= CHUNK_CUT_MIN || at + n == len), "%zu", n);
                cr_assert(n % CHUNK_CUT_BLOCK == 0 || at + n == len);
                hasher_sha256(h, data + at, n, id);
                digest_to_hex(id, hex);
                g_hash_table_add(names, g_strdup(hex));
                at += n;
        }
        return names;
}

Test(store_chunks, an_inserted_block_changes_few_chunks)
{
        const size_t len = BLOCKS * CHUNK_CUT_BLOCK + 100;
        g_autofree uint8_t *a = noise(len, 1), *b = g_malloc(len + CHUNK_CUT_BLOCK);
        guint n_a, n_b, common = 0;
        GHashTableIter iter;
        gpointer name;

        memset(b, 7, CHUNK_CUT_BLOCK); /* in front of everything */
        memcpy(b + CHUNK_CUT_BLOCK, a, len);
        g_autoptr(GHashTable) in_a = cut_all(a, len, &n_a), in_b = cut_all(b, len + CHUNK_CUT_BLOCK, &n_b);
        g_hash_table_iter_init(&iter, in_a);
        while (g_hash_table_iter_next(&iter, &name, NULL))
                common += g_hash_table_contains(in_b, name);
        cr_expect(gt(u32, n_a, 20));
        cr_expect(ge(u32, common + 3, n_a), "%u of %u", common, n_a);
}

Test(store_chunks, nothing_and_little_are_cut)
{
        g_autoptr(Hasher) h = hasher_new();
        g_autofree uint8_t *zeros = g_malloc0(2 * CHUNK_CUT_MAX);

        cr_expect(eq(sz, chunk_cut(h, zeros, 0), 0));
        cr_expect(eq(sz, chunk_cut(h, zeros, 1), 1));
        cr_expect(le(sz, chunk_cut(h, zeros, 2 * CHUNK_CUT_MAX), CHUNK_CUT_MAX));
}

static GBytes *small_index(void)
{
        g_autoptr(GArray) refs = g_array_new(FALSE, FALSE, sizeof(struct chunk_ref));
        struct chunk_ref r = {.end = 5000};

        memset(r.id, 0xab, sizeof r.id);
        g_array_append_val(refs, r);
        r.end = 5001;
        g_array_append_val(refs, r);
        return chunk_index_encode(refs);
}

Test(store_chunks, an_index_comes_back_as_it_was)
{
        g_autoptr(GBytes) index = small_index();
        g_autoptr(GArray) refs = NULL;
        gsize len;
        const guint8 *data = g_bytes_get_data(index, &len);

        cr_assert(eq(ptr, (void *)chunk_index_parse(data, len, &refs), NULL));
        cr_assert(eq(u32, refs->len, 2));
        cr_expect(eq(u64, g_array_index(refs, struct chunk_ref, 1).end, 5001));
        cr_expect(eq(u64, chunk_begin(refs, 1), 5000));
}

Test(store_chunks, no_changed_byte_of_an_index_goes_beyond_its_bounds)
{
        g_autoptr(GBytes) index = small_index();
        gsize len;
        const guint8 *data = g_bytes_get_data(index, &len);
        g_autofree guint8 *copy = g_memdup2(data, len);

        for (gsize i = 0; i < len; i++) {
                GArray *refs = NULL;

                copy[i] ^= 0x80;
                if (!chunk_index_parse(copy, len, &refs)) {
                        /* sizes that are only told, and names: what they claim is judged later */
                        cr_expect(le(u64, chunk_begin(refs, refs->len), 2 * CHUNK_CUT_MAX));
                        g_array_unref(refs);
                }
                copy[i] ^= 0x80;
                cr_expect(ne(ptr, (void *)chunk_index_parse(copy, i, &refs), NULL), "cut to %zu", i);
        }
}

Test(store_chunks, only_the_very_bytes_are_unpacked)
{
        g_autofree uint8_t *a = noise(100000, 3);
        g_autoptr(GBytes) chunk = g_bytes_new(a, 100000), packed = chunk_pack(chunk);
        g_autoptr(Hasher) h = hasher_new();
        uint8_t id[DIGEST_SIZE], other[DIGEST_SIZE] = {0};
        g_autoptr(GError) error = NULL;

        hasher_sha256(h, a, 100000, id);
        g_autoptr(GBytes) back = chunk_unpack(packed, 100000, id, NULL);
        cr_assert(ne(ptr, back, NULL));
        cr_expect(g_bytes_equal(back, chunk));
        cr_expect(eq(ptr, chunk_unpack(packed, 100000, other, &error), NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CORRUPT));
        cr_expect(eq(ptr, chunk_unpack(packed, 99999, id, NULL), NULL)); /* it claims more than it may have */
        cr_expect(eq(ptr, chunk_unpack(packed, 100001, id, NULL), NULL));
        cr_expect(eq(ptr, chunk_unpack(chunk, 100000, id, NULL), NULL)); /* no frame at all */
}

Test(store_chunks, pauses_double_up_to_half_a_minute_and_are_never_all_alike)
{
        cr_expect(eq(u32, transfer_pause_ms(1, 0), 125));
        cr_expect(eq(u32, transfer_pause_ms(1, 125), 250));
        cr_expect(eq(u32, transfer_pause_ms(2, 0), 250));
        cr_expect(eq(u32, transfer_pause_ms(8, 0), 15000));
        for (guint32 chance = 0; chance < 100000; chance += 7) {
                cr_assert(le(u32, transfer_pause_ms(40, chance), 30000));
                cr_assert(ge(u32, transfer_pause_ms(40, chance), 15000));
        }
}

Test(store_chunks, a_key_has_the_form_of_a_chunk_or_not)
{
        const uint8_t id[DIGEST_SIZE] = {0x01, 0x23, 0xab};
        g_autofree char *key = chunk_key(id);

        cr_expect(chunk_key_is(key), "%s", key);
        for (gsize i = 0; key[i]; i++) {
                g_autofree char *other = g_strdup(key), *cut = g_strndup(key, i);

                other[i] = 'X';
                cr_expect(not(chunk_key_is(other)), "%s", other);
                cr_expect(not(chunk_key_is(cut)), "%s", cut);
        }
        key[7] = '1'; /* not the folder that it belongs to */
        cr_expect(not(chunk_key_is(key)));
}
