/* tests/unit/test_shm_pack_deltas.c - deltas give what they were made for, or an error; never more than that.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <zstd.h>

#include "common/error.h"
#include "proto/limits.h"
#include "shm/pack_deltas.h"
#include "tests/support/packs.h"

TestSuite(pack_deltas, .timeout = 120);

#define SIZE (300u * 1024u)

/* Bytes that do not compress, and the same with some of them changed. */
static void fill(uint8_t *old, uint8_t *new)
{
        g_autoptr(GRand) r = g_rand_new_with_seed(7);
        for (size_t i = 0; i < SIZE; i++)
                old[i] = (uint8_t)g_rand_int(r);
        memcpy(new, old, SIZE);
        for (size_t i = 1000; i < SIZE; i += 20000)
                new[i] ^= 1;
}

struct pair {
        uint8_t old[SIZE], new[SIZE];
        GBytes *delta;
};

static struct pair *pair_new(void)
{
        struct pair *p = g_new(struct pair, 1);
        fill(p->old, p->new);
        p->delta = delta_make(p->old, SIZE, p->new, SIZE, 19, SIZE);
        cr_assert(ne(ptr, p->delta, NULL));
        return p;
}

static void pair_free(struct pair *p)
{
        g_bytes_unref(p->delta);
        g_free(p);
}

static gboolean apply(const struct pair *p, const void *old, size_t old_len, size_t cut, uint8_t *dst,
                      size_t len, GError **error)
{
        gsize n;
        const void *d = g_bytes_get_data(p->delta, &n);
        return delta_apply(old, old_len, d, n - cut, dst, len, error);
}

Test(pack_deltas, a_delta_gives_the_new_bytes_for_a_fraction_of_them)
{
        struct pair *p = pair_new();
        g_autofree uint8_t *dst = g_malloc(SIZE);
        g_autoptr(GError) error = NULL;
        cr_expect(apply(p, p->old, SIZE, 0, dst, SIZE, &error));
        cr_expect(zero(int, memcmp(dst, p->new, SIZE)));
        cr_expect(lt(sz, g_bytes_get_size(p->delta), SIZE / 100));
        pair_free(p);
}

Test(pack_deltas, over_another_prefix_it_is_an_error_or_other_bytes)
{
        struct pair *p = pair_new();
        g_autofree uint8_t *dst = g_malloc(SIZE);
        g_autoptr(GError) error = NULL;
        p->old[500] ^= 1; /* where both were the same */
        if (apply(p, p->old, SIZE, 0, dst, SIZE, &error))
                cr_expect(ne(int, memcmp(dst, p->new, SIZE), 0));
        g_clear_error(&error);
        cr_expect(not(apply(p, p->old, SIZE / 2, 0, dst, SIZE, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CORRUPT));
        pair_free(p);
}

Test(pack_deltas, one_that_is_cut_off_anywhere_is_an_error)
{
        struct pair *p = pair_new();
        g_autofree uint8_t *dst = g_malloc(SIZE);
        for (size_t cut = 1; cut <= g_bytes_get_size(p->delta); cut++) {
                g_autoptr(GError) error = NULL;
                cr_expect(not(apply(p, p->old, SIZE, cut, dst, SIZE, &error)));
                cr_expect(ne(ptr, error, NULL));
        }
        pair_free(p);
}

Test(pack_deltas, one_that_gives_more_or_less_than_it_should_is_an_error)
{
        struct pair *p = pair_new();
        g_autofree uint8_t *dst = g_malloc(SIZE + 1);
        g_autoptr(GError) error = NULL;
        cr_expect(not(apply(p, p->old, SIZE, 0, dst, SIZE - 1, &error)), "more than there is room for");
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CORRUPT));
        g_clear_error(&error);
        cr_expect(not(apply(p, p->old, SIZE, 0, dst, SIZE + 1, &error)), "less than was said");
        pair_free(p);
}

/* 64 MiB of zeros in a few KiB: no more than the room is ever written. */
Test(pack_deltas, a_bomb_is_an_error)
{
        enum { BOMB = 64 * 1024 * 1024 };
        g_autofree uint8_t *zeros = g_malloc0(BOMB), *frame = g_malloc(ZSTD_compressBound(BOMB));
        size_t n = ZSTD_compress(frame, ZSTD_compressBound(BOMB), zeros, BOMB, 3);
        uint8_t dst[4096 + 16];
        g_autoptr(GError) error = NULL;
        memset(dst, 0x5a, sizeof dst);
        cr_assert(lt(sz, n, 16384));
        cr_expect(not(delta_apply("x", 1, frame, n, dst, 4096, &error)));
        for (size_t i = 4096; i < sizeof dst; i++)
                cr_expect(eq(u8, dst[i], 0x5a));
}

Test(pack_deltas, what_does_not_get_small_enough_is_none)
{
        struct pair *p = pair_new();
        cr_expect(eq(ptr, delta_make(p->old, 1000, p->new, SIZE, 3, SIZE / 2), NULL));
        pair_free(p);
}

/* --- in a pack --- */

static const uint8_t digest[DIGEST_SIZE] = {7};

struct described {
        uint32_t source, blob;
        uint64_t prefix_offset, prefix, offset, length;
};

static Moult__DeltaFrame *frame_of(const struct described *d)
{
        Moult__DeltaFrame *f = g_new(Moult__DeltaFrame, 1);
        moult__delta_frame__init(f);
        f->n_prefix = f->n_parts = 1;
        f->prefix = g_new(Moult__DeltaPiece *, 1);
        f->prefix[0] = g_new(Moult__DeltaPiece, 1);
        moult__delta_piece__init(f->prefix[0]);
        f->prefix[0]->source = d->source;
        f->prefix[0]->offset = d->prefix_offset;
        f->prefix[0]->length = d->prefix;
        f->parts = g_new(Moult__DeltaPart *, 1);
        f->parts[0] = g_new(Moult__DeltaPart, 1);
        moult__delta_part__init(f->parts[0]);
        f->parts[0]->blob = d->blob;
        f->parts[0]->offset = d->offset;
        f->parts[0]->length = d->length;
        return f;
}

/* A pack of one file, and one delta for it that says this of itself. */
static PackReader *pack_with(TempDir *t, const struct pair *p, const struct described *d)
{
        g_autoptr(GError) error = NULL;
        const struct pack_writer_options options = {.name = "n", .version = "1", .no_trees = TRUE};
        g_autofree char *path = tempdir_path(t, "p.moult");
        g_autoptr(PackWriter) w = pack_writer_new(path, &options, &error);
        packs_add_file(w, "usr/file", p->new, SIZE);
        DeltaWriter *deltas = pack_writer_begin_deltas(w, &error);
        cr_assert(ne(ptr, deltas, NULL));
        if (d != NULL) {
                cr_expect(zero(u32, delta_writer_add_source(deltas, 0, "usr/old", digest)));
                cr_assert(delta_writer_add_frame(deltas, frame_of(d), p->delta, &error));
        }
        g_autoptr(SigningKey) key = packs_key(t);
        g_autoptr(TrustStore) trust = packs_trust(t);
        cr_assert(pack_writer_finish(w, &key, 1, NULL, &error));
        PackReader *r = packs_open(path, trust, &error);
        cr_assert(ne(ptr, r, NULL));
        cr_expect(packs_verify(r, &error), "the deltas are in the way of the rest");
        return r;
}

static const struct described right = {.prefix = SIZE, .length = SIZE};

Test(pack_deltas, a_pack_says_which_it_has)
{
        struct pair *p = pair_new();
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(PackReader) r = pack_with(t, p, &right);
        g_autoptr(DeltaIndex) x = delta_index_read(r, NULL, &error);
        cr_assert(ne(ptr, x, NULL));
        cr_assert(eq(sz, x->n_frames, 1));
        const Moult__DeltaFrame *f = x->frames[0];
        g_autofree uint8_t *stored = g_malloc(f->stored_size), *dst = g_malloc(SIZE);
        cr_expect(eq(sz, delta_frame_prefix(f), SIZE));
        cr_expect(eq(sz, delta_frame_output(f), SIZE));
        cr_assert(pack_reader_read_stored(r, f->offset, stored, f->stored_size, NULL, &error));
        cr_expect(delta_apply(p->old, SIZE, stored, f->stored_size, dst, SIZE, &error));
        cr_expect(zero(int, memcmp(dst, p->new, SIZE)));
        ProtobufCBinaryData path = delta_source_path(pack_reader_manifest(r), x->sources[0]);
        cr_expect(zero(int, memcmp(path.data, "usr/old", path.len)));
        cr_expect(zero(int, memcmp(delta_source_digest(pack_reader_manifest(r), x->sources[0]), digest, 32)));
        pair_free(p);
}

Test(pack_deltas, a_pack_without_any_says_nothing)
{
        struct pair *p = pair_new();
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(PackReader) r = pack_with(t, p, NULL);
        cr_expect(eq(ptr, delta_index_read(r, NULL, &error), NULL));
        cr_expect(eq(ptr, error, NULL));
        pair_free(p);
}

/* The list vouches for the release; these are believed nothing. */
Test(pack_deltas, what_they_say_of_themselves_is_judged)
{
        static const struct described wrong[] = {
                {.prefix = SIZE, .length = SIZE + 1},
                {.prefix = SIZE, .length = SIZE, .offset = 4096},
                {.prefix = SIZE, .length = 4096, .offset = 1},
                {.prefix = SIZE, .length = SIZE, .blob = 1},
                {.prefix = SIZE, .length = SIZE, .source = 1},
                {.prefix = LIMIT_DELTA_PREFIX + 1, .length = SIZE},
                {.prefix = 0, .length = SIZE},
                {.prefix = SIZE, .length = 0},
                {.prefix = SIZE, .prefix_offset = UINT64_MAX, .length = SIZE},
        };
        struct pair *p = pair_new();
        for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
                g_autoptr(TempDir) t = tempdir_new();
                g_autoptr(GError) error = NULL;
                g_autoptr(PackReader) r = pack_with(t, p, &wrong[i]);
                cr_expect(eq(ptr, delta_index_read(r, NULL, &error), NULL), "case %zu was accepted", i);
                cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_MALFORMED), "case %zu", i);
        }
        pair_free(p);
}

/* Not signed, so any bit may be another one: no deltas, an error, or deltas as judged as ever; and the pack
 * itself is as good as before. */
Test(pack_deltas, a_flipped_bit_in_trailer_or_index_is_found)
{
        struct pair *p = pair_new();
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(PackReader) good = pack_with(t, p, &right);
        g_autofree char *path = tempdir_path(t, "p.moult"), *bytes = NULL;
        g_autoptr(TrustStore) trust = packs_trust(t);
        gsize len;
        cr_assert(g_file_get_contents(path, &bytes, &len, &error));
        uint64_t end = pack_reader_header(good)->manifest_offset, begin = end - DELTA_TRAILER_SIZE;
        for (uint64_t i = begin; i < end; i++) {
                g_autoptr(GError) why = NULL;
                bytes[i] ^= 4;
                g_autoptr(PackSource) s = packs_memory_source(bytes, len);
                g_autoptr(PackReader) r = pack_reader_open(s, trust, NULL, NULL, &why);
                cr_assert(ne(ptr, r, NULL));
                g_autoptr(DeltaIndex) x = delta_index_read(r, NULL, &why);
                cr_expect(x == NULL, "byte %zu of the trailer", (size_t)(i - begin));
                gboolean is_magic = i - begin < 8, quiet = why == NULL;
                cr_expect(quiet == is_magic, "byte %zu", (size_t)(i - begin));
                bytes[i] ^= 4;
        }
        pair_free(p);
}
