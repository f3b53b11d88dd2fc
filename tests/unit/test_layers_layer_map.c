/* tests/unit/test_layers_layer_map.c - maps of layers: there and back, what is refused, keys. */
#include "host-service/layers/layer_map.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "host-service/layers/layer_build.h"
#include "host-service/store/chunk_cut.h"

TestSuite(layer_map, .timeout = 60);

#define S ((uint64_t)LAYER_SECTOR)

static struct layer_chunk chunk(uint8_t id, uint32_t sectors)
{
        struct layer_chunk c = {.len = sectors * LAYER_SECTOR};

        memset(c.id, id, sizeof c.id);
        return c;
}

/* data 0..8, absent, zeros 16..24, data 24..28 of the same chunk, 28..30 of another. */
static LayerMap *sample(void)
{
        g_autoptr(LayerBuild) b = layer_build_new(64 * S);
        struct layer_chunk x = chunk(1, 8), y = chunk(2, 4);

        layer_build_data(b, 0, 4 * S, &x, 0);
        layer_build_data(b, 4 * S, 4 * S, &x, 4 * LAYER_SECTOR);
        layer_build_zeros(b, 16 * S, 4 * S);
        layer_build_zeros(b, 20 * S, 4 * S);
        layer_build_data(b, 24 * S, 4 * S, &x, 0);
        layer_build_data(b, 28 * S, 2 * S, &y, 2 * LAYER_SECTOR);
        return layer_build_end(b, NULL);
}

static struct layer_extent *extent(LayerMap *m, guint i)
{
        return &g_array_index(m->extents, struct layer_extent, i);
}

Test(layer_map, what_can_be_one_extent_is_one_and_each_chunk_is_named_once)
{
        g_autoptr(LayerMap) m = sample();

        cr_assert(eq(u32, m->extents->len, 4));
        cr_expect(eq(u32, m->chunks->len, 2));
        cr_expect(eq(u64, extent(m, 0)->len, 8 * S));
        cr_expect(eq(u64, extent(m, 1)->len, 8 * S));
        cr_expect(eq(u64, layer_map_data_bytes(m), 14 * S));
        cr_expect(eq(ptr, (void *)layer_map_refusal(m), NULL));
}

Test(layer_map, a_map_comes_back_as_it_was)
{
        g_autoptr(LayerMap) m = sample(), empty = layer_map_new(LAYER_DISK_MAX), back = NULL, none = NULL;
        uint8_t digest[DIGEST_SIZE], again[DIGEST_SIZE] = {0};
        g_autoptr(GBytes) stored = layer_map_pack(m, digest, NULL),
                          nothing = layer_map_pack(empty, NULL, NULL);

        back = layer_map_unpack(stored, again, NULL);
        cr_assert(ne(ptr, back, NULL));
        cr_expect(layer_map_equal(m, back));
        cr_expect(not(layer_map_equal(m, empty)));
        cr_expect(eq(int, memcmp(digest, again, DIGEST_SIZE), 0));
        none = layer_map_unpack(nothing, NULL, NULL);
        cr_assert(ne(ptr, none, NULL), "a layer that nothing was written to");
        cr_expect(layer_map_equal(none, empty));
}

Test(layer_map, every_changed_or_missing_byte_is_seen)
{
        g_autoptr(LayerMap) m = sample();
        g_autoptr(GBytes) bytes = layer_map_encode(m, NULL), stored = layer_map_pack(m, NULL, NULL);
        gsize len, stored_len;
        const guint8 *data = g_bytes_get_data(bytes, &len), *frame = g_bytes_get_data(stored, &stored_len);
        g_autofree guint8 *copy = g_memdup2(data, len);
        LayerMap *back = NULL;

        for (gsize i = 0; i < len; i++) {
                copy[i] ^= 0x40;
                cr_expect(ne(ptr, (void *)layer_map_parse(copy, len, &back), NULL), "byte %zu", i);
                copy[i] ^= 0x40;
                cr_expect(ne(ptr, (void *)layer_map_parse(copy, i, &back), NULL), "cut to %zu", i);
        }
        for (gsize i = 0; i < stored_len; i++) {
                g_autoptr(GBytes) cut = g_bytes_new(frame, i);
                g_autoptr(GError) error = NULL;

                cr_expect(eq(ptr, layer_map_unpack(cut, NULL, &error), NULL), "cut to %zu", i);
                cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CORRUPT));
        }
}

Test(layer_map, two_frames_are_no_map)
{
        g_autoptr(LayerMap) m = sample();
        g_autoptr(GBytes) stored = layer_map_pack(m, NULL, NULL), two = NULL;
        g_autoptr(GByteArray) a = g_byte_array_new();
        gsize len;
        const guint8 *data = g_bytes_get_data(stored, &len);

        g_byte_array_append(a, data, (guint)len);
        g_byte_array_append(a, data, (guint)len);
        two = g_bytes_new(a->data, a->len);
        cr_expect(eq(ptr, layer_map_unpack(two, NULL, NULL), NULL));
}

/* Encoded with a digest that is right, as only somebody who means it does. */
static const char *refusal_on_the_way(const LayerMap *m)
{
        g_autoptr(GBytes) bytes = layer_map_encode(m, NULL);
        gsize len;
        const guint8 *data = g_bytes_get_data(bytes, &len);
        LayerMap *back = NULL;
        const char *why = layer_map_parse(data, len, &back);

        layer_map_free(back);
        return why;
}

#define REFUSES(text, change)                                                                                \
        do {                                                                                                 \
                g_autoptr(LayerMap) m = sample();                                                            \
                change;                                                                                      \
                const char *why = refusal_on_the_way(m);                                                     \
                cr_assert(ne(ptr, (void *)why, NULL), #change);                                              \
                cr_expect(eq(str, (char *)why, text), #change);                                              \
        } while (0)

Test(layer_map, what_no_map_says_is_refused)
{
        struct layer_chunk unnamed = chunk(9, 1);

        REFUSES("its disk has a size that none can have", m->size_bytes = 0);
        REFUSES("its disk has a size that none can have", m->size_bytes += 1);
        REFUSES("its disk has a size that none can have", m->size_bytes = LAYER_DISK_MAX + S);
        REFUSES("an extent leaves the disk, or has no length", m->size_bytes = 29 * S);
        REFUSES("an extent leaves the disk, or has no length", extent(m, 1)->len = 0);
        REFUSES("an extent leaves the disk, or has no length", extent(m, 3)->len = UINT64_MAX - S + 1);
        REFUSES("an extent is not of whole sectors", extent(m, 0)->len -= 1);
        REFUSES("an extent is not of whole sectors", extent(m, 0)->offset += 1);
        REFUSES("two extents could be one", extent(m, 2)->chunk = LAYER_ZEROS);
        REFUSES("two extents could be one",
                (extent(m, 1)->offset = 8 * S, extent(m, 1)->len = 4 * S, extent(m, 1)->chunk = 0,
                 extent(m, 1)->chunk_offset = 8 * LAYER_SECTOR));
        REFUSES("zeros are in no chunk", extent(m, 1)->chunk_offset = LAYER_SECTOR);
        REFUSES("an extent names a chunk that it cannot name yet", extent(m, 0)->chunk = 1);
        REFUSES("an extent names a chunk that it cannot name yet", extent(m, 3)->chunk = 2);
        REFUSES("it has chunks that no extent names", g_array_append_val(m->chunks, unnamed));
        REFUSES("an extent leaves its chunk", extent(m, 2)->chunk_offset = 5 * LAYER_SECTOR);
        REFUSES("an extent leaves its chunk", extent(m, 3)->chunk_offset = 1);
        REFUSES("a chunk has a length that none can have",
                g_array_index(m->chunks, struct layer_chunk, 1).len = 0);
        REFUSES("a chunk has a length that none can have",
                g_array_index(m->chunks, struct layer_chunk, 0).len += 1);
        REFUSES("a chunk has a length that none can have",
                g_array_index(m->chunks, struct layer_chunk, 0).len = CHUNK_CUT_MAX + LAYER_SECTOR);
}

Test(layer_map, extents_out_of_order_are_refused)
{
        g_autoptr(LayerMap) m = sample();

        extent(m, 1)->offset = 4 * S;
        cr_expect(eq(str, (char *)layer_map_refusal(m), "extents are not in order, or overlap"));
}

Test(layer_map, a_key_has_an_id_or_is_none)
{
        static const char *const bad[] = {"layers/.layer",    "layers/../x.layer", "layers/a/b.layer",
                                          "layers/a.b.layer", "layers/a.layers",   "layer/a.layer",
                                          "layers/-a.layer",  "layers/",           "layers/.layer",
                                          "layers/a b.layer"};
        g_autofree char *key = layer_key("01JDX7000000000000000000AB-0"), *id = layer_key_id(key),
                        *long_id = g_strnfill(65, 'a');

        cr_expect(eq(str, key, "layers/01JDX7000000000000000000AB-0.layer"));
        cr_assert(ne(ptr, id, NULL));
        cr_expect(eq(str, id, "01JDX7000000000000000000AB-0"));
        for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
                cr_expect(eq(ptr, layer_key_id(bad[i]), NULL), "%s", bad[i]);
        cr_expect(not(layer_id_is_valid(long_id)));
        cr_expect(layer_id_is_valid(long_id + 1));
        cr_expect(not(layer_id_is_valid("")));
}
