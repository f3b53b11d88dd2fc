/* tests/fuzz/fuzz_layer_map.c - the map of a layer as a shared store may give it: refused, or it keeps to its
 * rules and comes back as it was, alone and squashed with itself. The digest at the end is put right, since
 * no search finds one. */
#include <stdlib.h>
#include <string.h>

#include "host-service/layers/layer_chain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge(LayerMap *m)
{
        const LayerMap *chain[] = {m, m};
        g_autoptr(GBytes) bytes = layer_map_encode(m, NULL);
        gsize len;
        const uint8_t *data = g_bytes_get_data(bytes, &len);
        g_autoptr(LayerMap) back = NULL, both = layer_map_squash(m, m, NULL);
        g_autoptr(GArray) seen = layer_map_overlay(chain, 2);
        uint64_t end = 0;

        if (layer_map_refusal(m) || layer_map_parse(data, len, &back) || !layer_map_equal(m, back))
                abort();
        if (!both || layer_map_refusal(both) || layer_map_data_bytes(both) != layer_map_data_bytes(m))
                abort();
        for (guint i = 0; i < seen->len; i++) {
                const struct seen_extent *e = &g_array_index(seen, struct seen_extent, i);

                if (e->offset < end || e->len == 0 || e->len > m->size_bytes - e->offset)
                        abort();
                end = e->offset + e->len;
        }
        layer_map_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        g_autofree uint8_t *whole = g_malloc(size + DIGEST_SIZE);
        g_autoptr(Hasher) h = hasher_new();
        g_autoptr(GBytes) stored = g_bytes_new_static(data, size);
        LayerMap *m = layer_map_unpack(stored, NULL, NULL);

        if (m)
                judge(m);
        m = NULL;
        if (size > 0)
                memcpy(whole, data, size);
        hasher_sha256(h, whole, size, whole + size);
        if (!layer_map_parse(whole, size + DIGEST_SIZE, &m))
                judge(m);
        return 0;
}
