/* tests/unit/test_layers_layer_restore.c - restore points out of the store: what is seen is what was,
 * whatever layers; wrong bytes never reach the disk. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "common/libcrypto.h"
#include "host-service/store/chunk_cut.h"
#include "tests/support/layer_lab.h"

TestSuite(layer_restore, .init = libcrypto_start, .timeout = 120);

#define MIB   (UINT64_C(1) << 20)
#define BLOCK ((uint64_t)CHUNK_CUT_BLOCK)

static void expect_ok(LayerLab *l, gboolean ok)
{
        cr_assert(ok, "%s", l->error ? l->error->message : "");
}

/* A guest that writes, discards, and writes again; some of it what another disk has as well. */
static void scribble(FakeDisk *d, GRand *r)
{
        uint64_t sectors = d->reader.size_bytes / LAYER_SECTOR;

        for (gint n = g_rand_int_range(r, 1, 40); n > 0; n--) {
                uint64_t unit = g_rand_boolean(r) ? 1 : 8, at = g_rand_int(r) % sectors / unit * unit,
                         len = (1 + g_rand_int(r) % (g_rand_boolean(r) ? 16 : 1500)) * unit;

                len = MIN(len, sectors - at);
                if (g_rand_int_range(r, 0, 4) == 0)
                        fake_disk_zero(d, at * LAYER_SECTOR, len * LAYER_SECTOR);
                else
                        fake_disk_fill(d, at * LAYER_SECTOR, len * LAYER_SECTOR, g_rand_int(r) % 6);
        }
}

Test(layer_restore, what_is_seen_is_what_was)
{
        static const char *const ids[] = {"base", "one", "two", "three"};
        g_autoptr(GRand) r = g_rand_new_with_seed(44);

        for (guint round = 0; round < 12; round++) {
                g_autoptr(LayerLab) l = layer_lab_new();
                g_autoptr(FakeDisk) seen = NULL;
                uint8_t digests[4][DIGEST_SIZE];

                for (guint i = 0; i < 4; i++) {
                        uint64_t size = (uint64_t)g_rand_int_range(r, 2048, 8192) * LAYER_SECTOR;
                        g_autoptr(FakeDisk) d = fake_disk_new(size), next = NULL, out = fake_disk_new(size),
                                            shown = NULL;
                        struct layer_ref refs[4];

                        scribble(d, r);
                        next = fake_disk_over(d, seen);
                        expect_ok(l, layer_lab_upload(l, ids[i], d, g_rand_boolean(r) ? seen : NULL, NULL));
                        memcpy(digests[i], l->up.map_digest, DIGEST_SIZE);
                        for (guint k = 0; k <= i; k++)
                                refs[k] = (struct layer_ref){ids[i - k], digests[i - k]};
                        expect_ok(l, layer_lab_restore(l, refs, i + 1, out, NULL));
                        shown = fake_disk_over(out, NULL);
                        cr_assert(fake_disk_equal(shown, next), "round %u layer %u", round, i);
                        fake_disk_free(seen);
                        seen = g_steal_pointer(&next);
                }
        }
}

/* A disk of 4 MiB whose halves are the same, as the layer "a". */
static FakeDisk *upload_halves(LayerLab *l)
{
        FakeDisk *d = fake_disk_new(4 * MIB);

        fake_disk_fill(d, 0, 2 * MIB, 3);
        fake_disk_fill(d, 2 * MIB, 2 * MIB, 3);
        expect_ok(l, layer_lab_upload(l, "a", d, NULL, NULL));
        return d;
}

Test(layer_restore, each_chunk_is_fetched_once_and_not_if_it_is_near)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = upload_halves(l), out = fake_disk_new(4 * MIB),
                            again = fake_disk_new(4 * MIB);
        g_autoptr(ObjectStore) near = object_store_dir_new(l->dir);
        const struct layer_restore_options options = {.find_chunk = layer_find_in_store, .cache = near};
        const struct layer_ref ref = {"a", l->up.map_digest};

        l->store->gets = 0;
        expect_ok(l, layer_lab_restore(l, &ref, 1, out, NULL));
        cr_expect(eq(u32, (guint)l->store->gets, l->up.chunks));
        cr_expect(eq(u32, l->down.chunks, l->up.chunks));
        cr_expect(lt(u64, l->up.chunks, 4 * MIB / CHUNK_CUT_MIN / 2));
        cr_expect(eq(u64, l->down.data_bytes, 4 * MIB));
        cr_expect(fake_disk_equal(out, d));

        l->store->gets = 0;
        expect_ok(l, layer_lab_restore(l, &ref, 1, again, &options));
        cr_expect(eq(int, l->store->gets, 0));
        cr_expect(eq(u32, l->down.found, l->up.chunks));
        cr_expect(eq(u64, l->down.fetched_bytes, 0));
        cr_expect(fake_disk_equal(again, d));
}

static GBytes *lie(gpointer cache, const struct layer_chunk *chunk)
{
        return g_bytes_new_take(g_malloc0(chunk->len), chunk->len);
}

Test(layer_restore, a_cache_that_lies_is_not_believed)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = upload_halves(l), out = fake_disk_new(4 * MIB);
        const struct layer_restore_options options = {.find_chunk = lie};
        const struct layer_ref ref = {"a", NULL};

        expect_ok(l, layer_lab_restore(l, &ref, 1, out, &options));
        cr_expect(eq(u32, l->down.found, 0));
        cr_expect(fake_disk_equal(out, d));
}

Test(layer_restore, wrong_bytes_never_reach_the_disk)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = upload_halves(l), out = fake_disk_new(4 * MIB);
        const struct layer_ref ref = {"a", l->up.map_digest};

        l->store->garble = "chunks/";
        cr_expect(not(layer_lab_restore(l, &ref, 1, out, NULL)));
        cr_expect(g_error_matches(l->error, MOULT_ERROR, MOULT_ERROR_CORRUPT), "%s", l->error->message);
        for (uint64_t s = 0; s < 4 * MIB / LAYER_SECTOR; s++)
                cr_assert(eq(int, out->kinds[s], LAYER_RANGE_ABSENT));
}

Test(layer_restore, a_map_that_is_not_the_one_is_refused)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = upload_halves(l), out = fake_disk_new(4 * MIB), small = fake_disk_new(MIB);
        const uint8_t digest[DIGEST_SIZE] = {1};
        const struct layer_ref other = {"a", digest}, missing = {"b", NULL}, right = {"a", NULL};

        cr_expect(not(layer_lab_restore(l, &other, 1, out, NULL)));
        cr_expect(g_error_matches(l->error, MOULT_ERROR, MOULT_ERROR_CORRUPT), "%s", l->error->message);
        cr_expect(not(layer_lab_restore(l, &missing, 1, out, NULL)));
        cr_expect(g_error_matches(l->error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND), "%s", l->error->message);
        cr_expect(not(layer_lab_restore(l, &right, 1, small, NULL)));
        cr_expect(g_error_matches(l->error, MOULT_ERROR, MOULT_ERROR_CORRUPT), "%s", l->error->message);
}

Test(layer_restore, a_rate_is_kept_on_the_average)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = fake_disk_new(8 * MIB), out = fake_disk_new(8 * MIB);
        const struct layer_restore_options options = {.rate_bytes_per_s = 256 * 1024};
        const struct layer_ref ref = {"a", NULL};
        gint64 began;

        fake_disk_fill(d, 0, 8 * MIB, 4);
        expect_ok(l, layer_lab_upload(l, "a", d, NULL, NULL));
        began = l->world->monotonic_us;
        expect_ok(l, layer_lab_restore(l, &ref, 1, out, &options));
        cr_expect(gt(i64, l->world->monotonic_us - began,
                     (gint64)((8 * MIB - 256 * 1024 - 4 * CHUNK_CUT_MAX) / (256 * 1024)) * G_USEC_PER_SEC));
}

static void on_over(const struct layer_restore_result *result, const GError *error, gpointer lab)
{
        LayerLab *l = lab;

        cr_assert(not(l->over));
        l->over = TRUE;
        l->error = g_error_copy(error);
}

Test(layer_restore, cancelled_it_ends_once)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = upload_halves(l), out = fake_disk_new(4 * MIB);
        const struct layer_ref ref = {"a", NULL};

        for (guint turns = 0; turns < 8; turns++) {
                g_clear_error(&l->error);
                l->over = FALSE;
                fake_disk_free(out);
                out = fake_disk_new(4 * MIB);
                LayerRestore *r = layer_restore_start(&l->world->env, &l->store->base, &ref, 1, &out->writer,
                                                      NULL, on_over, l);
                for (guint i = 0; i < turns; i++)
                        g_main_context_iteration(l->world->env.context, TRUE);
                cr_assert(not(l->over));
                layer_restore_cancel(r);
                layer_lab_wait(l);
                cr_expect(g_error_matches(l->error, MOULT_ERROR, MOULT_ERROR_CANCELLED), "%s",
                          l->error->message);
        }
}
