/* tests/unit/test_layers_layer_limits.c - maps that are as large as they can be, and larger. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "host-service/layers/layer_build.h"
#include "host-service/object_store.h"

TestSuite(layer_limits, .timeout = 110);

#define S ((uint64_t)LAYER_SECTOR)

Test(layer_limits, a_map_that_is_too_large_is_not_built)
{
        g_autoptr(LayerBuild) b = layer_build_new(LAYER_DISK_MAX);
        g_autoptr(GError) error = NULL;

        for (uint64_t i = 0; i < LAYER_EXTENTS_MAX; i++)
                layer_build_zeros(b, 2 * i * S, S);
        cr_expect(not(layer_build_is_full(b, NULL)));
        layer_build_zeros(b, 2 * LAYER_EXTENTS_MAX * S, S);
        cr_expect(layer_build_is_full(b, NULL));
        cr_expect(eq(ptr, layer_build_end(b, &error), NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED));
}

/* Names and places that nothing compresses. */
static LayerMap *largest_map(void)
{
        g_autoptr(GRand) r = g_rand_new_with_seed(7);
        g_autoptr(LayerBuild) b = layer_build_new(LAYER_DISK_MAX);

        for (uint64_t i = 0; i < LAYER_CHUNKS_MAX; i++) {
                struct layer_chunk c = {.len = (g_rand_int(r) % 1024 + 1) * LAYER_SECTOR};

                for (gsize k = 0; k < DIGEST_SIZE; k += 4) {
                        guint32 n = g_rand_int(r);

                        memcpy(c.id + k, &n, sizeof n);
                }
                layer_build_data(b, 3 * i * (UINT64_C(1) << 24), c.len, &c, 0);
                for (uint64_t k = 1; k < 3; k++)
                        layer_build_zeros(b, (3 * i + k) * (UINT64_C(1) << 24) + g_rand_int(r) % 8192 * S,
                                          (g_rand_int(r) % 16384 + 1) * S);
        }
        return layer_build_end(b, NULL);
}

Test(layer_limits, a_map_that_would_be_too_large_an_object_is_not_packed)
{
        g_autoptr(LayerMap) m = largest_map();
        g_autoptr(GError) error = NULL;

        cr_assert(ne(ptr, m, NULL));
        g_autoptr(GBytes) stored = layer_map_pack(m, NULL, &error);
        cr_expect(eq(ptr, stored, NULL), "%zu bytes", stored ? g_bytes_get_size(stored) : 0);
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED));
}
