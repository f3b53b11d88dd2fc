/* tests/unit/test_layers_layer_upload.c - layers into the store: what is left out, what is sent, and what
 * happens when the store, the clock or the disk do not do as they should. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <sys/stat.h>
#include <utime.h>

#include "common/error.h"
#include "common/libcrypto.h"
#include "host-service/store/chunk_cut.h"
#include "tests/support/layer_lab.h"

TestSuite(layer_upload, .init = libcrypto_start, .timeout = 60);

#define MIB   (UINT64_C(1) << 20)
#define BLOCK ((uint64_t)CHUNK_CUT_BLOCK)
#define ID    "01JDX7000000000000000000AB-0"

static void expect_ok(LayerLab *l, gboolean ok)
{
        cr_assert(ok, "%s", l->error ? l->error->message : "");
}

/* 6 MiB: data, a hole, zeros, data with zeros in it. */
static FakeDisk *sample_disk(void)
{
        FakeDisk *d = fake_disk_new(6 * MIB);

        fake_disk_fill(d, 0, 2 * MIB, 1);
        fake_disk_zero(d, 3 * MIB, MIB);
        fake_disk_fill(d, 4 * MIB, MIB, 2);
        fake_disk_fill(d, 4 * MIB + 64 * BLOCK, 16 * BLOCK, 0);
        return d;
}

static LayerMap *stored_map(LayerLab *l, const char *id)
{
        g_autofree char *key = layer_key(id);
        g_autoptr(GBytes) stored =
                l->store->inner->ops->get(l->store->inner, key, OBJECT_MAX_BYTES, NULL, NULL);

        return stored ? layer_map_unpack(stored, NULL, NULL) : NULL;
}

Test(layer_upload, only_what_is_neither_absent_nor_zeros_is_sent_and_the_map_comes_last)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = sample_disk();

        expect_ok(l, layer_lab_upload(l, ID, d, NULL, NULL));
        g_autoptr(LayerMap) m = stored_map(l, ID);
        g_autoptr(GPtrArray) chunks = layer_lab_keys(l, "chunks/");

        cr_assert(ne(ptr, m, NULL));
        cr_expect(eq(u64, m->size_bytes, 6 * MIB));
        cr_expect(eq(u64, l->up.data_bytes, 3 * MIB - 16 * BLOCK));
        cr_expect(eq(u64, layer_map_data_bytes(m), l->up.data_bytes));
        cr_expect(eq(u32, l->up.chunks, chunks->len));
        cr_expect(eq(u64, l->up.sent_chunks, chunks->len));
        cr_expect(eq(u32, m->chunks->len, chunks->len));
        cr_expect(not(l->up.already_there));
}

Test(layer_upload, blocks_of_the_parent_are_left_out)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) base = fake_disk_new(2 * MIB), top = fake_disk_new(4 * MIB), below = NULL;

        fake_disk_fill(base, 0, MIB, 1);
        below = fake_disk_over(base, NULL);
        /* a cluster of 16 blocks as QEMU copies it, of which the guest has written one; and zeros over zeros
         */
        fake_disk_fill(top, 0, 16 * BLOCK, 1);
        fake_disk_fill(top, 3 * BLOCK, BLOCK, 9);
        fake_disk_fill(top, MIB, BLOCK, 0);
        fake_disk_fill(top, 2 * BLOCK, BLOCK, 0); /* zeros over data: they are told */
        fake_disk_fill(top, 3 * MIB, BLOCK, 0);   /* behind the end of what is below */
        fake_disk_fill(top, 2 * MIB, BLOCK, 7);
        expect_ok(l, layer_lab_upload(l, ID, top, below, NULL));
        g_autoptr(LayerMap) m = stored_map(l, ID);
        static const struct layer_extent expected[] = {
                {2 * BLOCK, BLOCK, LAYER_ZEROS, 0}, {3 * BLOCK, BLOCK, 0, 0}, {2 * MIB, BLOCK, 0, BLOCK}};

        cr_assert(eq(u32, m->extents->len, 3));
        cr_expect(eq(int, memcmp(m->extents->data, expected, sizeof expected), 0));
        cr_expect(eq(u32, m->chunks->len, 1), "two blocks far apart share a chunk");
}

Test(layer_upload, the_same_content_is_the_same_map_however_the_reader_tells_it)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = sample_disk();
        struct layer_upload_result first;

        expect_ok(l, layer_lab_upload(l, ID, d, NULL, NULL));
        first = l->up;
        /* zeros that were a hole in the file are data now */
        fake_disk_fill(d, 3 * MIB, MIB, 0);
        expect_ok(l, layer_lab_upload(l, ID, d, NULL, NULL));
        cr_expect(l->up.already_there);
        cr_expect(eq(u64, l->up.sent_bytes, 0));
        cr_expect(eq(int, memcmp(first.map_digest, l->up.map_digest, DIGEST_SIZE), 0));
        cr_expect(eq(u32, first.chunks, l->up.chunks));
}

Test(layer_upload, equal_files_of_another_disk_are_not_sent_again)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = fake_disk_new(8 * MIB), other = fake_disk_new(8 * MIB);

        fake_disk_fill(d, MIB, 3 * MIB, 5);
        fake_disk_fill(other, 100 * BLOCK, 70 * BLOCK, 6); /* something else before it */
        fake_disk_fill(other, 2 * MIB, 3 * MIB, 5);
        expect_ok(l, layer_lab_upload(l, ID, d, NULL, NULL));
        expect_ok(l, layer_lab_upload(l, "other-0", other, NULL, NULL));
        cr_expect(lt(u64, l->up.sent_bytes, 70 * BLOCK + 2 * 1024), "%u", (guint)l->up.sent_bytes);
}

Test(layer_upload, a_rate_is_kept_on_the_average)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = fake_disk_new(16 * MIB);
        const struct layer_upload_options options = {.rate_bytes_per_s = 256 * 1024};
        gint64 began = l->world->monotonic_us;
        gdouble seconds, at_least;

        fake_disk_fill(d, 0, 16 * MIB, 3);
        expect_ok(l, layer_lab_upload(l, ID, d, NULL, &options));
        seconds = (gdouble)(l->world->monotonic_us - began) / G_USEC_PER_SEC;
        /* one second's worth at once, and what was under way when the bucket was empty */
        at_least = ((gdouble)l->up.sent_bytes - 256 * 1024 - 4 * CHUNK_CUT_MAX) / (256 * 1024);
        cr_expect(seconds >= at_least, "%f of %f", seconds, at_least);
        cr_expect(seconds <= (gdouble)l->up.sent_bytes / (256 * 1024) + 2, "%f", seconds);
}

Test(layer_upload, a_store_that_is_down_for_a_while_is_asked_again)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = sample_disk();

        l->store->fail_puts = 9;
        expect_ok(l, layer_lab_upload(l, ID, d, NULL, NULL));
        g_autoptr(LayerMap) m = stored_map(l, ID);
        cr_expect(ne(ptr, m, NULL));
}

Test(layer_upload, a_store_that_stays_down_ends_it_without_a_map_and_the_next_one_goes_on)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = sample_disk();
        guint64 sent;

        expect_ok(l, layer_lab_upload(l, "whole", d, NULL, NULL));
        sent = l->up.sent_chunks;
        l->store->inner->ops->remove(l->store->inner, "layers/whole.layer", NULL, NULL);
        g_autoptr(GPtrArray) chunks = layer_lab_keys(l, "chunks/");
        for (guint i = 3; i < chunks->len; i++)
                l->store->inner->ops->remove(l->store->inner, chunks->pdata[i], NULL, NULL);
        l->store->fail_puts = 1000;
        cr_expect(not(layer_lab_upload(l, ID, d, NULL, NULL)));
        cr_expect(g_error_matches(l->error, MOULT_ERROR, MOULT_ERROR_TIMEOUT), "%s", l->error->message);
        g_autoptr(GPtrArray) maps = layer_lab_keys(l, "layers/");
        cr_expect(eq(u32, maps->len, 0));
        l->store->fail_puts = 0;
        expect_ok(l, layer_lab_upload(l, ID, d, NULL, NULL));
        cr_expect(eq(u64, l->up.sent_chunks, sent - 3));
}

Test(layer_upload, a_chunk_that_goes_before_the_map_is_there_is_put_back)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = sample_disk();

        l->store->lose_at = "layers/";
        expect_ok(l, layer_lab_upload(l, ID, d, NULL, NULL));
        g_autoptr(GPtrArray) chunks = layer_lab_keys(l, "chunks/");
        cr_expect(eq(u32, chunks->len, l->up.chunks));
        cr_expect(eq(u64, l->up.sent_chunks, l->up.chunks + 1));
}

Test(layer_upload, a_map_that_does_not_come_back_as_it_was_is_no_success)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = sample_disk();

        l->store->garble = "layers/";
        cr_expect(not(layer_lab_upload(l, ID, d, NULL, NULL)));
        cr_expect(g_error_matches(l->error, MOULT_ERROR, MOULT_ERROR_CORRUPT), "%s", l->error->message);
}

Test(layer_upload, a_chunk_with_wrong_bytes_is_found_if_it_is_asked_for)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = sample_disk();
        const struct layer_upload_options verify = {.verify = TRUE};

        expect_ok(l, layer_lab_upload(l, ID, d, NULL, &verify));
        l->store->garble = "chunks/";
        expect_ok(l, layer_lab_upload(l, ID, d, NULL, NULL));
        cr_expect(not(layer_lab_upload(l, ID, d, NULL, &verify)));
        cr_expect(g_error_matches(l->error, MOULT_ERROR, MOULT_ERROR_CORRUPT), "%s", l->error->message);
}

Test(layer_upload, a_damaged_map_or_another_one_is_replaced)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = sample_disk(), other = fake_disk_new(MIB);
        g_autoptr(GBytes) rubbish = g_bytes_new_static("rubbish", 7);

        cr_assert(l->store->inner->ops->put(l->store->inner, "layers/" ID ".layer", rubbish, NULL, NULL));
        expect_ok(l, layer_lab_upload(l, ID, other, NULL, NULL));
        expect_ok(l, layer_lab_upload(l, ID, d, NULL, NULL));
        g_autoptr(LayerMap) m = stored_map(l, ID);
        cr_assert(ne(ptr, m, NULL));
        cr_expect(eq(u64, m->size_bytes, 6 * MIB));
}

static void age(LayerLab *l, const char *key)
{
        g_autofree char *path = g_build_filename(l->dir, key, NULL);
        const struct utimbuf old = {1000000000, 1000000000};

        cr_assert(eq(int, utime(path, &old), 0));
}

static gboolean is_old(LayerLab *l, const char *key)
{
        g_autofree char *path = g_build_filename(l->dir, key, NULL);
        struct stat st;

        cr_assert(eq(int, stat(path, &st), 0));
        return st.st_mtime == 1000000000;
}

Test(layer_upload, what_is_there_and_old_is_made_young)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = sample_disk();

        expect_ok(l, layer_lab_upload(l, ID, d, NULL, NULL));
        g_autoptr(GPtrArray) chunks = layer_lab_keys(l, "chunks/");
        for (guint i = 0; i < chunks->len; i++)
                age(l, chunks->pdata[i]);
        age(l, "layers/" ID ".layer");
        expect_ok(l, layer_lab_upload(l, ID, d, NULL, NULL));
        for (guint i = 0; i < chunks->len; i++)
                cr_expect(not(is_old(l, chunks->pdata[i])));
        cr_expect(not(is_old(l, "layers/" ID ".layer")));
        cr_expect(eq(u64, l->up.sent_bytes, 0));
}

Test(layer_upload, a_layer_that_changes_while_it_is_sent_is_not_stored)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = sample_disk();
        gint reads = 0;

        l->over = FALSE;
        LayerUpload *u = layer_upload_start(&l->world->env, &l->store->base, ID, &d->reader, NULL, NULL,
                                            layer_lab_uploaded, l);
        while (__atomic_load_n(&layer_upload_progress(u)->done, __ATOMIC_RELAXED) < (gint64)(3 * MIB) &&
               reads++ < 10000000)
                ; /* the loop does not turn: nothing is sent yet */
        memset(d->bytes, 0x55, 2 * MIB);
        layer_lab_wait(l);
        cr_assert(ne(ptr, l->error, NULL));
        cr_expect(g_error_matches(l->error, MOULT_ERROR, MOULT_ERROR_IO), "%s", l->error->message);
        g_autoptr(GPtrArray) maps = layer_lab_keys(l, "layers/");
        cr_expect(eq(u32, maps->len, 0));
}

static void cancel_on_put(gpointer user)
{
        g_atomic_int_set((gint *)user, 1);
}

Test(layer_upload, cancelled_at_once_or_in_the_middle_it_ends_once_without_a_map)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = sample_disk();

        for (guint middle = 0; middle < 2; middle++) {
                gint put = 0;

                l->over = FALSE;
                l->store->on_put = cancel_on_put;
                l->store->user = &put;
                LayerUpload *u = layer_upload_start(&l->world->env, &l->store->base, ID, &d->reader, NULL,
                                                    NULL, layer_lab_uploaded, l);
                while (middle && !g_atomic_int_get(&put))
                        g_main_context_iteration(l->world->env.context, TRUE);
                layer_upload_cancel(u);
                layer_lab_wait(l);
                cr_assert(ne(ptr, l->error, NULL));
                cr_expect(g_error_matches(l->error, MOULT_ERROR, MOULT_ERROR_CANCELLED), "%s",
                          l->error->message);
                g_autoptr(GPtrArray) maps = layer_lab_keys(l, "layers/");
                cr_expect(eq(u32, maps->len, 0));
        }
}

Test(layer_upload, progress_ends_at_its_total)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = sample_disk(), below = fake_disk_over(d, NULL);
        struct layer_progress last = {0};

        fake_disk_fill(d, 0, MIB, 8); /* half of the first data differ from what is below */
        l->over = FALSE;
        LayerUpload *u = layer_upload_start(&l->world->env, &l->store->base, ID, &d->reader, &below->reader,
                                            NULL, layer_lab_uploaded, l);
        while (!l->over) {
                const struct layer_progress *p = layer_upload_progress(u);

                cr_expect(ge(i64, p->done, last.done));
                last = *p;
                g_main_context_iteration(l->world->env.context, TRUE);
        }
        expect_ok(l, !l->error);
        cr_expect(eq(i64, last.total, 2 * 3 * MIB));
        cr_expect(eq(i64, last.done, last.total));
        cr_expect(eq(u64, (guint64)last.moved_bytes, l->up.sent_bytes));
        cr_expect(eq(u64, l->up.data_bytes, MIB));
}

Test(layer_upload, a_disk_that_no_map_can_describe_is_refused)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = fake_disk_new(MIB);

        d->reader.size_bytes = MIB - 1;
        cr_expect(not(layer_lab_upload(l, ID, d, NULL, NULL)));
        d->reader.size_bytes = 0;
        cr_expect(not(layer_lab_upload(l, ID, d, NULL, NULL)));
        cr_expect(g_error_matches(l->error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED), "%s", l->error->message);
}

/* Each case: ranges that a reader cannot have. */
static guint bad_case;

static gboolean bad_map(struct layer_reader *r, uint64_t offset, uint64_t len, GArray *ranges,
                        GCancellable *cancellable, GError **error)
{
        static const struct layer_range cases[] = {
                {512, 512, LAYER_RANGE_DATA},       /* a gap */
                {0, 0, LAYER_RANGE_DATA},           /* for ever */
                {0, 100, LAYER_RANGE_DATA},         /* no whole sector */
                {0, 2 * 1048576, LAYER_RANGE_ZERO}, /* beyond the end */
        };

        if (bad_case < G_N_ELEMENTS(cases))
                g_array_append_val(ranges, cases[bad_case]);
        return TRUE;
}

Test(layer_upload, a_reader_that_says_what_cannot_be_is_not_believed)
{
        static const struct layer_reader_ops ops = {bad_map, NULL};
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(FakeDisk) d = fake_disk_new(MIB);

        d->reader.ops = &ops;
        for (bad_case = 0; bad_case < 5; bad_case++) {
                cr_expect(not(layer_lab_upload(l, ID, d, NULL, NULL)), "case %u", bad_case);
                cr_expect(g_error_matches(l->error, MOULT_ERROR, MOULT_ERROR_MALFORMED), "case %u", bad_case);
        }
}
