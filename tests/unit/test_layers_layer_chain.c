/* tests/unit/test_layers_layer_chain.c - what is seen through layers, against a disk of an array of sectors.
 */
#include "host-service/layers/layer_chain.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "host-service/layers/layer_build.h"

TestSuite(layer_chain, .timeout = 120);

#define SECTORS 48u
#define CHAINS  4000u
#define DEEPEST 5u

/* One sector of a disk: absent, zeros, or a number that stands for its bytes. */
#define ABSENT UINT32_MAX
#define ZEROS  0u

/* A few chunks only, so that they are named again and again; 1 to 8 sectors. */
static struct layer_chunk chunk_of(uint8_t id)
{
        struct layer_chunk c = {.len = (1 + id % 8u) * LAYER_SECTOR};

        memset(c.id, id, sizeof c.id);
        return c;
}

static uint32_t bytes_of(const struct layer_chunk *c, uint32_t chunk_offset)
{
        return 1 + c->id[0] * 100u + chunk_offset / LAYER_SECTOR;
}

static char *refusal_of(const LayerMap *m)
{
        const char *why = layer_map_refusal(m);

        return (char *)(why ? why : "none");
}

/* What the layer has, in @model as well. */
static LayerMap *random_map(GRand *r, uint32_t model[SECTORS], uint32_t *ret_sectors)
{
        uint32_t sectors = (uint32_t)g_rand_int_range(r, 1, SECTORS + 1), at = 0;
        g_autoptr(LayerBuild) b = layer_build_new((uint64_t)sectors * LAYER_SECTOR);

        memset(model, 0xff, SECTORS * sizeof *model);
        while (at < sectors) {
                struct layer_chunk c = chunk_of((uint8_t)g_rand_int_range(r, 1, 20));
                uint32_t whole = c.len / LAYER_SECTOR,
                         first = (uint32_t)g_rand_int_range(r, 0, (gint32)whole),
                         n = (uint32_t)g_rand_int_range(r, 1, (gint32)(whole - first) + 1);
                gint32 kind = g_rand_int_range(r, 0, 3);

                n = MIN(n, sectors - at);
                if (kind == 0)
                        layer_build_zeros(b, at * (uint64_t)LAYER_SECTOR, n * LAYER_SECTOR);
                if (kind == 1)
                        layer_build_data(b, at * (uint64_t)LAYER_SECTOR, n * LAYER_SECTOR, &c,
                                         first * LAYER_SECTOR);
                for (uint32_t i = 0; kind < 2 && i < n; i++)
                        model[at + i] = kind == 0 ? ZEROS : bytes_of(&c, (first + i) * LAYER_SECTOR);
                at += n;
        }
        *ret_sectors = sectors;
        return layer_build_end(b, NULL);
}

/* What the maps show, sector by sector; and that extents are in order and within the disk. */
static void seen_sectors(const LayerMap *const *maps, guint n, uint32_t ret[SECTORS])
{
        g_autoptr(GArray) seen = layer_map_overlay(maps, n);
        uint64_t end = 0;

        memset(ret, 0xff, SECTORS * sizeof *ret);
        for (guint i = 0; i < seen->len; i++) {
                const struct seen_extent *e = &g_array_index(seen, struct seen_extent, i);

                cr_assert(e->len > 0 && e->offset >= end && e->offset + e->len <= maps[0]->size_bytes);
                end = e->offset + e->len;
                for (uint64_t at = 0; at < e->len; at += LAYER_SECTOR) {
                        uint32_t *s = &ret[(e->offset + at) / LAYER_SECTOR];

                        *s = ZEROS;
                        if (e->chunk != LAYER_ZEROS)
                                *s = bytes_of(
                                        &g_array_index(maps[e->layer]->chunks, struct layer_chunk, e->chunk),
                                        e->chunk_offset + (uint32_t)at);
                }
        }
}

/* The same from the model. */
static uint32_t model_sector(uint32_t models[][SECTORS], const uint32_t *sectors, guint n, uint32_t s)
{
        for (guint i = 0; i < n; i++) {
                if (s >= sectors[i])
                        return ZEROS;
                if (models[i][s] != ABSENT)
                        return models[i][s];
        }
        return ABSENT;
}

Test(layer_chain, a_chain_shows_what_an_array_of_sectors_does)
{
        g_autoptr(GRand) r = g_rand_new_with_seed(33);

        for (guint round = 0; round < CHAINS; round++) {
                guint n = (guint)g_rand_int_range(r, 1, DEEPEST + 1);
                uint32_t models[DEEPEST][SECTORS], sectors[DEEPEST] = {0}, seen[SECTORS];
                LayerMap *maps[DEEPEST];

                for (guint i = 0; i < n; i++) {
                        maps[i] = random_map(r, models[i], &sectors[i]);
                        cr_assert(eq(str, refusal_of(maps[i]), "none"), "round %u", round);
                }
                seen_sectors((const LayerMap *const *)maps, n, seen);
                for (uint32_t s = 0; s < sectors[0]; s++)
                        cr_assert(eq(u32, seen[s], model_sector(models, sectors, n, s)), "round %u sector %u",
                                  round, s);
                for (guint i = 0; i < n; i++)
                        layer_map_free(maps[i]);
        }
}

Test(layer_chain, two_layers_as_one_show_the_same_with_and_without_the_older)
{
        g_autoptr(GRand) r = g_rand_new_with_seed(34);

        for (guint round = 0; round < CHAINS; round++) {
                uint32_t model[SECTORS], sectors, three[SECTORS], two[SECTORS], again[SECTORS];
                g_autoptr(LayerMap) child = random_map(r, model, &sectors),
                                    parent = random_map(r, model, &sectors),
                                    oldest = random_map(r, model, &sectors),
                                    both = layer_map_squash(parent, child, NULL);
                const LayerMap *a[] = {child, parent, oldest}, *b[] = {both, oldest},
                               *c[] = {both, parent, oldest};
                g_autoptr(GBytes) bytes = NULL;

                cr_assert(ne(ptr, both, NULL));
                cr_assert(eq(str, refusal_of(both), "none"), "round %u", round);
                seen_sectors(a, 3, three);
                seen_sectors(b, 2, two);
                seen_sectors(c, 3, again);
                cr_assert(eq(int, memcmp(three, two, sizeof two), 0), "round %u", round);
                cr_assert(eq(int, memcmp(three, again, sizeof again), 0), "round %u", round);
        }
}

Test(layer_chain, what_a_smaller_disk_below_does_not_have_is_zeros_whatever_lies_deeper)
{
        g_autoptr(LayerBuild) deep = layer_build_new(8 * LAYER_SECTOR);
        g_autoptr(LayerMap) top = layer_map_new(8 * LAYER_SECTOR), middle = layer_map_new(4 * LAYER_SECTOR);
        struct layer_chunk c = chunk_of(7);

        layer_build_data(deep, 0, 8 * LAYER_SECTOR, &c, 0);
        g_autoptr(LayerMap) bottom = layer_build_end(deep, NULL);
        const LayerMap *maps[] = {top, middle, bottom};
        uint32_t seen[SECTORS];

        seen_sectors(maps, 3, seen);
        cr_expect(eq(u32, seen[3], bytes_of(&c, 3 * LAYER_SECTOR)));
        cr_expect(eq(u32, seen[4], ZEROS));
        cr_expect(eq(u32, seen[8], ABSENT));
}
