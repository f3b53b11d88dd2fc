/* tests/unit/test_shm_verified_file.c - every byte that comes out was packed, whatever happens to the pack
 * meanwhile.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/verity_layout.h"
#include "proto/channel.pb-c.h"
#include "shm/verified_file.h"
#include "tests/support/packs.h"

TestSuite(verified_file, .timeout = 120);

#define KIB 1024u
#define MIB (1024u * 1024u)

/* --- a source that counts, and that a test can damage --- */

typedef struct {
        PackSource base;
        struct pack_source_ops ops;
        uint8_t *data;
        gint gone;  /* atomic */
        gint reads; /* atomic */
        gsize bytes;
} Window;

static gboolean window_read(PackSource *self, uint64_t offset, void *buf, size_t len,
                            GCancellable *cancellable, GError **error)
{
        Window *w = (Window *)self;
        g_atomic_int_inc(&w->reads);
        g_atomic_pointer_add(&w->bytes, (gssize)len);
        if (g_atomic_int_get(&w->gone)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "the window is gone");
                return FALSE;
        }
        memcpy(buf, w->data + offset, len);
        return TRUE;
}

static void window_free(PackSource *self)
{
        g_free(((Window *)self)->data);
        g_free(self);
}

static Window *window_new(const void *data, size_t len)
{
        Window *w = g_new0(Window, 1);
        w->ops = (struct pack_source_ops){.name = "window",
                                          .kind = MOULT__SOURCE_KIND__SOURCE_IVSHMEM,
                                          .read = window_read,
                                          .free = window_free};
        pack_source_init(&w->base, &w->ops, len);
        w->data = g_memdup2(data, len);
        return w;
}

/* --- packs --- */

static const struct pack_writer_options raw = {.name = "n", .version = "1"};
static const struct pack_writer_options zstd = {.name = "n", .version = "1", .zstd_level = 1};
static const struct pack_writer_options bare = {.name = "n", .version = "1", .no_trees = TRUE};

static PackWriter *begin(TempDir *t, const struct pack_writer_options *options)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *path = tempdir_path(t, "p");
        PackWriter *w = pack_writer_new(path, options, &error);
        cr_assert(ne(ptr, w, NULL));
        return w;
}

/* Seals the pack and gives it as a window. */
static Window *seal(TempDir *t, PackWriter *w)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *path = tempdir_path(t, "p"), *bytes = NULL;
        gsize len;
        cr_assert(pack_writer_finish(w, NULL, 0, NULL, &error), "%s", error != NULL ? error->message : "");
        cr_assert(g_file_get_contents(path, &bytes, &len, &error));
        return window_new(bytes, len);
}

static PackReader *reader_of(PackSource *source)
{
        g_autoptr(GError) error = NULL;
        PackReader *r = pack_reader_open(source, NULL, NULL, NULL, &error);
        cr_assert(ne(ptr, r, NULL), "%s", error != NULL ? error->message : "");
        return r;
}

/* Lines that compress, and noise in every third 64 KiB; the same in every run. */
static uint8_t *content(size_t len, guint32 seed)
{
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        uint8_t *p = g_malloc(len + 4);
        for (size_t i = 0; i < len; i += 4) {
                guint32 word = i / 65536 % 3 == 2 ? g_rand_int(rand) : (guint32)(i / 400 + seed);
                memcpy(p + i, &word, 4);
        }
        return p;
}

/* @runs: pairs of offset and length, ended by a length of 0. */
static void add_sparse(PackWriter *w, TempDir *t, const char *path, const uint8_t *logical, uint64_t size,
                       const uint64_t (*runs)[2])
{
        g_autoptr(GError) error = NULL;
        scoped_fd int fd = openat(t->fd, "sparse", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        cr_assert(eq(int, ftruncate(fd, (off_t)size), 0));
        for (; (*runs)[1] > 0; runs++)
                cr_assert(
                        fd_pwrite_all(fd, logical + (*runs)[0], (*runs)[1], (off_t)(*runs)[0], path, &error));
        Moult__Entry e = packs_entry(MOULT__ENTRY_TYPE__ENTRY_FILE, path);
        cr_assert(pack_writer_add_entry(w, &e, fd, NULL, &error));
}

static VerifiedFile *open_file(PackReader *r, const char *path)
{
        g_autoptr(GError) error = NULL;
        gssize i = manifest_find(pack_reader_manifest(r), path, strlen(path));
        cr_assert(i >= 0);
        VerifiedFile *f = verified_file_open(r, (uint32_t)i, &error);
        cr_assert(ne(ptr, f, NULL), "%s", error != NULL ? error->message : "");
        return f;
}

static const Moult__Blob *blob_of(PackReader *r, const char *path)
{
        const Manifest *m = pack_reader_manifest(r);
        return m->blobs[m->entries[manifest_find(m, path, strlen(path))]->blob - 1];
}

/* --- what comes out --- */

static void expect_read(VerifiedFile *f, const uint8_t *data, size_t size, uint64_t offset, size_t len)
{
        g_autoptr(GError) error = NULL;
        g_autofree uint8_t *buf = g_malloc(len + 1);
        size_t got, want = offset < size ? MIN(len, size - (size_t)offset) : 0;
        memset(buf, 0xee, len + 1);
        cr_assert(verified_file_read(f, offset, buf, len, &got, NULL, &error),
                  "%zu at %" G_GUINT64_FORMAT ": %s", len, offset, error != NULL ? error->message : "");
        cr_assert(eq(sz, got, want));
        cr_assert(want == 0 || memcmp(buf, data + offset, want) == 0, "%zu at %" G_GUINT64_FORMAT " of %zu",
                  len, offset, size);
        cr_assert(eq(u8, buf[want], 0xee), "nothing behind what was asked for");
}

/* Of a failed read nothing is given out. Returns the code. */
static MoultError expect_failure(VerifiedFile *f, uint64_t offset, size_t len)
{
        g_autoptr(GError) error = NULL;
        g_autofree uint8_t *buf = g_malloc(len);
        size_t got = 77;
        memset(buf, 0xee, len);
        cr_assert(not(verified_file_read(f, offset, buf, len, &got, NULL, &error)),
                  "%zu at %" G_GUINT64_FORMAT, len, offset);
        cr_expect(eq(sz, got, 77));
        size_t zeros = 0;
        while (zeros < len && buf[zeros] == 0)
                zeros++;
        cr_expect(eq(sz, zeros, len), "bytes were given out");
        return moult_error_code(error);
}

static void expect_whole(VerifiedFile *f, const uint8_t *data, size_t size, guint32 seed)
{
        static const size_t edges[] = {0,         1,       4095, 4096,   4097, 512 * KIB - 1,
                                       512 * KIB, MIB - 1, MIB,  MIB + 1};
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        cr_expect(eq(u64, verified_file_size(f), size));
        expect_read(f, data, size, 0, size + 1);
        for (size_t i = 0; i < G_N_ELEMENTS(edges); i++)
                for (size_t j = 0; j < G_N_ELEMENTS(edges); j++)
                        expect_read(f, data, size, edges[i], edges[j]);
        for (int i = 0; i < 200; i++)
                expect_read(f, data, size, (uint64_t)(g_rand_double(rand) * (double)(size + 10)),
                            (size_t)g_rand_int_range(rand, 0, i % 10 == 0 ? 700000 : 9000));
        for (size_t back = 0; back <= MIN(size, 9000); back += 1500)
                expect_read(f, data, size, size - back, 5000);
        expect_read(f, data, size, UINT64_MAX, 10);
        expect_read(f, data, size, size, SIZE_MAX / 2 > size ? 100 : 0);
}

static void expect_every_size(const struct pack_writer_options *options)
{
        static const size_t sizes[] = {0,         1,      4095,    4096, 4097,    8192,       100000,
                                       512 * KIB, 524289, MIB - 1, MIB,  MIB + 1, 3 * MIB + 5};
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree uint8_t *data = content(4 * MIB, 1);
        g_autoptr(PackWriter) w = begin(t, options);
        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_autofree char *name = g_strdup_printf("%02zu", i);
                packs_add_file(w, name, data, sizes[i]);
        }
        g_autoptr(PackSource) source = &seal(t, w)->base;
        g_autoptr(PackReader) r = reader_of(source);
        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_autofree char *name = g_strdup_printf("%02zu", i);
                g_autoptr(VerifiedFile) f = open_file(r, name);
                expect_whole(f, data, sizes[i], (guint32)i);
        }
}

Test(verified_file, any_bytes_of_a_raw_file_of_any_size_are_those_that_were_packed)
{
        expect_every_size(&raw);
}

Test(verified_file, any_bytes_of_a_compressed_file_of_any_size_are_those_that_were_packed)
{
        expect_every_size(&zstd);
}

static void expect_sparse(const struct pack_writer_options *options)
{
        /* Begins in a hole; runs across chunks and within one; ends in data that fills no block. */
        static const uint64_t runs[][2] = {
                {8192, 4096}, {16384, MIB + 4096}, {2 * MIB, 2 * MIB}, {5 * MIB, 17}, {0, 0}};
        static const uint64_t inside[][2] = {{0, 300000}, {0, 0}};
        g_autoptr(TempDir) t = tempdir_new();
        const size_t size = 5 * MIB + 17;
        g_autofree uint8_t *data = content(size, 2), *sparse = g_malloc0(size), *ends = g_malloc0(9 * MIB);
        for (size_t i = 0; runs[i][1] > 0; i++)
                memcpy(sparse + runs[i][0], data + runs[i][0], runs[i][1]);
        memcpy(ends, data, 300000);
        g_autoptr(PackWriter) w = begin(t, options);
        packs_add_file(w, "a", data, 70000);
        add_sparse(w, t, "ends-in-a-hole", ends, 8 * MIB, inside);
        add_sparse(w, t, "hole", ends, 8 * MIB, &inside[1]);
        add_sparse(w, t, "sparse", sparse, size, runs);
        g_autoptr(PackSource) source = &seal(t, w)->base;
        g_autoptr(PackReader) r = reader_of(source);
        g_autoptr(VerifiedFile) f = open_file(r, "sparse"), e = open_file(r, "ends-in-a-hole"),
                                h = open_file(r, "hole");
        expect_whole(f, sparse, size, 3);
        for (size_t i = 0; runs[i][1] > 0; i++)
                for (int step = -4097; step <= 4097; step += 4097)
                        expect_read(f, sparse, size, (uint64_t)((gint64)runs[i][0] + step),
                                    (size_t)runs[i][1] + 1);
        expect_whole(e, ends, 8 * MIB, 4);
        memset(ends, 0, 300000);
        expect_whole(h, ends, 8 * MIB, 5);
}

Test(verified_file, holes_are_zeros_and_what_is_between_them_is_what_was_packed)
{
        expect_sparse(&raw);
}

Test(verified_file, holes_of_a_compressed_file_too)
{
        expect_sparse(&zstd);
}

/* --- how much is read for it --- */

Test(verified_file, opening_reads_nothing_and_a_block_costs_a_block_of_each_level)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree uint8_t *data = content(65 * MIB, 6);
        g_autoptr(PackWriter) w = begin(t, &raw);
        packs_add_file(w, "f", data, 65 * MIB);
        Window *window = seal(t, w);
        g_autoptr(PackSource) source = &window->base;
        g_autoptr(PackReader) r = reader_of(source);
        gint reads = window->reads;
        gsize bytes = window->bytes;
        g_autoptr(VerifiedFile) f = open_file(r, "f");
        cr_expect(eq(int, window->reads, reads));
        expect_read(f, data, 65 * MIB, 40 * MIB + 5, 10);
        cr_expect(eq(int, window->reads - reads, 4), "three levels and the block");
        cr_expect(eq(sz, window->bytes - bytes, 4 * 4096));
        expect_read(f, data, 65 * MIB, 40 * MIB + 128 * KIB, 128 * KIB);
        cr_expect(eq(int, window->reads - reads, 5), "what was verified is kept");
        g_autoptr(VerifiedFile) again = open_file(r, "f");
        expect_read(again, data, 65 * MIB, 40 * MIB, 4096);
        cr_expect(eq(int, window->reads - reads, 6), "for all who have the file open");
}

Test(verified_file, reading_front_to_back_unpacks_each_chunk_once)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree uint8_t *data = content(4 * MIB, 7);
        g_autoptr(PackWriter) w = begin(t, &zstd);
        packs_add_file(w, "f", data, 4 * MIB);
        Window *window = seal(t, w);
        g_autoptr(PackSource) source = &window->base;
        g_autoptr(PackReader) r = reader_of(source);
        cr_assert(eq(int, blob_of(r, "f")->storage, MOULT__BLOB_STORAGE__BLOB_ZSTD));
        g_autoptr(VerifiedFile) f = open_file(r, "f");
        gint reads = window->reads;
        for (uint64_t at = 0; at < 4 * MIB; at += 128 * KIB)
                expect_read(f, data, 4 * MIB, at, 128 * KIB);
        cr_expect(eq(int, window->reads - reads, 4 + 8 + 1), "chunks, leaves, root");
}

/* --- what is wrong is not given out --- */

Test(verified_file, a_damaged_block_is_refused_and_its_neighbours_are_not)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree uint8_t *data = content(MIB + 100, 8);
        g_autoptr(PackWriter) w = begin(t, &raw);
        packs_add_file(w, "f", data, MIB + 100);
        packs_add_file(w, "small", data, 100);
        Window *window = seal(t, w);
        g_autoptr(PackSource) source = &window->base;
        g_autoptr(PackReader) r = reader_of(source);
        g_autoptr(VerifiedFile) f = open_file(r, "f"), small = open_file(r, "small");
        uint64_t base = blob_of(r, "f")->offset;
        window->data[base + 40960 + 4095] ^= 1;
        window->data[base + MIB + 99] ^= 0x80; /* of the last block, which is not full */
        window->data[blob_of(r, "small")->offset + 99] ^= 1;
        cr_expect(eq(int, expect_failure(f, 40960, 1), MOULT_ERROR_CORRUPT));
        cr_expect(eq(int, expect_failure(f, 40959, 2), MOULT_ERROR_CORRUPT));
        cr_expect(eq(int, expect_failure(f, 0, 200000), MOULT_ERROR_CORRUPT));
        cr_expect(eq(int, expect_failure(f, MIB, 1), MOULT_ERROR_CORRUPT));
        cr_expect(eq(int, expect_failure(small, 0, 1), MOULT_ERROR_CORRUPT));
        expect_read(f, data, MIB + 100, 0, 40960);
        expect_read(f, data, MIB + 100, 45056, MIB - 45056);
        window->data[base + 40960 + 4095] ^= 1; /* once it is good again, it is read again */
        expect_read(f, data, MIB + 100, 0, MIB);
}

Test(verified_file, a_chunk_that_cannot_be_unpacked_or_unpacks_to_something_else_is_refused)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree uint8_t *data = content(2 * MIB, 9);
        g_autoptr(PackWriter) w = begin(t, &zstd);
        packs_add_file(w, "f", data, 2 * MIB);
        Window *window = seal(t, w);
        g_autoptr(PackSource) source = &window->base;
        unsigned n_unpack = 0, n_blocks = 0;
        for (size_t at = 3; at < 300000; at += 7919) {
                g_autoptr(PackReader) r = reader_of(source); /* with nothing kept */
                g_autoptr(VerifiedFile) f = open_file(r, "f");
                g_autoptr(GError) error = NULL;
                g_autofree uint8_t *buf = g_malloc(MIB);
                size_t got;
                const Moult__Blob *b = blob_of(r, "f");
                cr_assert(b->n_chunk_sizes == 2 && b->chunk_sizes[0] > 300000);
                window->data[b->offset + at] ^= 1;
                cr_assert(not(verified_file_read(f, 0, buf, MIB, &got, NULL, &error)), "byte %zu", at);
                cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_CORRUPT));
                n_unpack += strstr(error->message, "reading blob") != NULL;
                n_blocks += strstr(error->message, "is not what the signed list stands for") != NULL;
                expect_read(f, data, 2 * MIB, MIB, MIB); /* the other chunk */
                window->data[b->offset + at] ^= 1;
                expect_read(f, data, 2 * MIB, 0, 2 * MIB); /* the wrong one was not kept */
        }
        cr_expect(n_unpack > 0 && n_blocks > 0, "%u and %u", n_unpack, n_blocks);
}

Test(verified_file, a_hash_block_that_is_damaged_is_refused_at_every_level)
{
        static const uint64_t runs[][2] = {
                {0, 8 * MIB}, {64 * MIB, MIB}, {0, 0}}; /* three levels for 9 MiB */
        g_autoptr(TempDir) t = tempdir_new();
        const size_t size = 65 * MIB;
        g_autofree uint8_t *data = content(8 * MIB, 11), *logical = g_malloc0(size);
        memcpy(logical, data, 8 * MIB);
        memcpy(logical + 64 * MIB, data, MIB);
        g_autoptr(PackWriter) w = begin(t, &raw);
        add_sparse(w, t, "f", logical, size, runs);
        g_autoptr(PackSource) source = &seal(t, w)->base;
        const uint8_t *bytes = ((Window *)source)->data;
        struct verity_layout layout;
        verity_layout_init(&layout, size);
        cr_assert(eq(u32, layout.n_levels, 3));
        for (unsigned level = 1; level <= 3; level++) {
                Window *window = window_new(bytes, source->size);
                g_autoptr(PackSource) damaged = &window->base;
                g_autoptr(PackReader) r = reader_of(damaged);
                if (blob_of(r, "f")->tree_offset == 0)
                        cr_skip_test("this file system does not tell where holes are");
                g_autoptr(VerifiedFile) f = open_file(r, "f");
                uint64_t at = blob_of(r, "f")->tree_offset + layout.start[level] * VERITY_BLOCK_SIZE;
                window->data[at + 7] ^= 4; /* of the first digest in the first block of the level */
                cr_expect(eq(int, expect_failure(f, 0, 4096), MOULT_ERROR_CORRUPT), "level %u", level);
                expect_read(f, logical, size, 20 * MIB, 4096); /* a hole needs no tree */
                if (level == 3)
                        cr_expect(eq(int, expect_failure(f, 64 * MIB, 4096), MOULT_ERROR_CORRUPT));
                else
                        expect_read(f, logical, size, 64 * MIB, MIB); /* under another block */
                window->data[at + 7] ^= 4;
                expect_read(f, logical, size, 0, 4096);
                window->data[at + 7] ^= 4; /* what is kept is our copy */
                expect_read(f, logical, size, 4096, 4096);
        }
}

Test(verified_file, the_tree_and_the_blocks_of_another_file_do_not_fit)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree uint8_t *data = content(600000, 12), *other = content(600000, 13);
        g_autoptr(PackWriter) w = begin(t, &raw);
        packs_add_file(w, "f", data, 600000);
        packs_add_file(w, "other", other, 600000);
        Window *window = seal(t, w);
        g_autoptr(PackSource) source = &window->base;
        g_autoptr(PackReader) r = reader_of(source);
        g_autoptr(VerifiedFile) f = open_file(r, "f"), g = open_file(r, "other");
        const Moult__Blob *a = blob_of(r, "f"), *b = blob_of(r, "other");
        /* All of it is consistent in itself, but not what was signed for this name. */
        memcpy(window->data + a->offset, window->data + b->offset, 600000);
        memcpy(window->data + a->tree_offset, window->data + b->tree_offset,
               verity_layout_stored_size(600000));
        cr_expect(eq(int, expect_failure(f, 0, 4096), MOULT_ERROR_CORRUPT));
        expect_read(g, other, 600000, 0, 600000);
}

Test(verified_file, blocks_that_changed_places_are_refused)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree uint8_t *data = content(MIB, 14);
        g_autoptr(PackWriter) w = begin(t, &raw);
        packs_add_file(w, "f", data, MIB);
        Window *window = seal(t, w);
        g_autoptr(PackSource) source = &window->base;
        g_autoptr(PackReader) r = reader_of(source);
        g_autoptr(VerifiedFile) f = open_file(r, "f");
        uint8_t *base = window->data + blob_of(r, "f")->offset;
        memcpy(base, data + 8192, 4096);
        memcpy(base + 8192, data, 4096);
        cr_expect(eq(int, expect_failure(f, 0, 4096), MOULT_ERROR_CORRUPT));
        cr_expect(eq(int, expect_failure(f, 8192, 4096), MOULT_ERROR_CORRUPT));
        expect_read(f, data, MIB, 4096, 4096);
}

/* --- the source --- */

Test(verified_file, when_the_source_is_gone_it_says_so_and_goes_on_when_it_is_back)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree uint8_t *data = content(MIB, 15);
        for (int round = 0; round < 2; round++) {
                g_autoptr(PackWriter) w = begin(t, round == 0 ? &raw : &zstd);
                packs_add_file(w, "f", data, MIB);
                Window *window = seal(t, w);
                g_autoptr(PackSource) source = &window->base;
                g_autoptr(PackReader) r = reader_of(source);
                g_autoptr(VerifiedFile) f = open_file(r, "f");
                g_atomic_int_set(&window->gone, 1);
                cr_expect(eq(int, expect_failure(f, 0, 4096), MOULT_ERROR_IO));
                g_atomic_int_set(&window->gone, 0);
                expect_read(f, data, MIB, 0, 4096);
                g_atomic_int_set(&window->gone, 1);
                if (round == 0)
                        cr_expect(eq(int, expect_failure(f, 4096, 4096), MOULT_ERROR_IO),
                                  "hash blocks are there");
                else
                        expect_read(f, data, MIB, 4096, 4096); /* its chunk is there too, and is verified */
        }
}

Test(verified_file, a_pack_that_is_cut_off_while_it_is_read_gives_no_bytes)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree uint8_t *data = content(MIB, 16);
        g_autoptr(PackWriter) w = begin(t, &raw);
        packs_add_file(w, "f", data, MIB);
        g_clear_pointer(&(PackSource *){&seal(t, w)->base}, pack_source_unref);
        g_autofree char *path = tempdir_path(t, "p");
        g_autoptr(PackReader) r = packs_open(path, NULL, &error);
        g_autoptr(VerifiedFile) f = open_file(r, "f");
        expect_read(f, data, MIB, 0, 4096);
        cr_assert(eq(int, truncate(path, 4096 + 500000), 0));
        expect_read(f, data, MIB, 4096, 4096);
        cr_expect(eq(int, expect_failure(f, 600000, 1), MOULT_ERROR_CORRUPT));
        cr_expect(eq(int, expect_failure(f, 499712 - 4096, 8192), MOULT_ERROR_CORRUPT));
}

Test(verified_file, with_a_kept_list_and_no_pack_there_is_nothing_to_read)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree uint8_t *data = content(10000, 17);
        g_autoptr(PackWriter) w = begin(t, &raw);
        packs_add_file(w, "f", data, 10000);
        g_autoptr(PackSource) source = &seal(t, w)->base;
        g_autoptr(PackReader) r = reader_of(source);
        g_autoptr(PackReader) kept =
                pack_reader_open_kept(pack_reader_header_bytes(r), pack_reader_manifest_bytes(r),
                                      pack_reader_signature_bytes(r), NULL, NULL, &error);
        g_autoptr(VerifiedFile) f = open_file(kept, "f");
        cr_expect(eq(int, expect_failure(f, 0, 4096), MOULT_ERROR_NOT_FOUND));
}

struct rungs {
        PackSource *sources[2];
        unsigned next;
        gboolean damaged;
};

static PackSource *next_rung(gpointer user, gboolean damaged, GError **error)
{
        struct rungs *s = user;
        s->damaged = damaged;
        if (s->next < G_N_ELEMENTS(s->sources))
                return pack_source_ref(s->sources[s->next++]);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "no other way to the pack");
        return NULL;
}

/* A window in which byte @at of the tree (or of the blob) is wrong, and a good one behind it. */
static void expect_distrust(const struct pack_writer_options *options, gboolean in_tree, uint64_t at)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree uint8_t *data = content(3 * MIB, 18);
        g_autoptr(PackWriter) w = begin(t, options);
        packs_add_file(w, "f", data, 3 * MIB);
        Window *window = seal(t, w), *good = window_new(window->data, window->base.size);
        g_autoptr(PackSource) first = &window->base, second = &good->base;
        struct rungs rungs = {.sources = {first, second}};
        g_autoptr(PackSource) ladder = pack_source_ladder_new(first->size, next_rung, &rungs);
        g_autoptr(PackReader) r = reader_of(ladder);
        g_autoptr(VerifiedFile) f = open_file(r, "f");
        const Moult__Blob *b = blob_of(r, "f");
        window->data[(in_tree ? b->tree_offset : b->offset) + at] ^= 1;
        expect_read(f, data, 3 * MIB, 0, 3 * MIB);
        cr_expect(eq(u32, pack_source_ladder_changes(ladder), 1));
        cr_expect(rungs.damaged, "the window was given up for its bytes, not for being gone");
}

Test(verified_file, a_window_with_a_wrong_block_is_given_up_for_the_next_source)
{
        expect_distrust(&raw, FALSE, 12345);
}

Test(verified_file, a_window_with_a_wrong_frame_is_given_up_for_the_next_source)
{
        expect_distrust(&zstd, FALSE, 100);
}

Test(verified_file, a_window_with_a_wrong_root_is_given_up_for_the_next_source)
{
        expect_distrust(&raw, TRUE, 0);
}

Test(verified_file, a_window_with_a_wrong_leaf_is_given_up_for_the_next_source)
{
        expect_distrust(&raw, TRUE, 4096 + 100);
}

Test(verified_file, a_chunk_that_a_window_gave_before_is_not_held_against_the_source_after_it)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree uint8_t *data = content(2 * MIB, 19);
        g_autoptr(PackWriter) w = begin(t, &zstd);
        packs_add_file(w, "f", data, 2 * MIB);
        Window *good = seal(t, w), *window = window_new(good->data, good->base.size);
        g_autoptr(PackSource) first = &window->base, second = &good->base;
        struct rungs rungs = {.sources = {first, second}};
        g_autoptr(PackSource) ladder = pack_source_ladder_new(first->size, next_rung, &rungs);
        g_autoptr(PackReader) r = reader_of(ladder);
        g_autoptr(VerifiedFile) f = open_file(r, "f");
        expect_read(f, data, 2 * MIB, 0, 4096); /* chunk 0 is there, from the window */
        g_atomic_int_set(&window->gone, 1);
        expect_read(f, data, 2 * MIB, MIB, 4096);
        cr_expect(eq(u32, pack_source_ladder_changes(ladder), 1));
        expect_read(f, data, 2 * MIB, 0, 2 * MIB);
        cr_expect(eq(u32, pack_source_ladder_changes(ladder), 1));
}

Test(verified_file, without_another_source_a_wrong_window_is_an_error_and_not_tried_for_ever)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree uint8_t *data = content(MIB, 21);
        g_autoptr(PackWriter) w = begin(t, &raw);
        packs_add_file(w, "f", data, MIB);
        Window *window = seal(t, w), *also = NULL;
        window->data[4096 + 5] ^= 1;
        also = window_new(window->data, window->base.size);
        g_autoptr(PackSource) first = &window->base, second = &also->base;
        struct rungs rungs = {.sources = {first, second}};
        g_autoptr(PackSource) ladder = pack_source_ladder_new(first->size, next_rung, &rungs);
        g_autoptr(PackReader) r = reader_of(ladder);
        g_autoptr(VerifiedFile) f = open_file(r, "f");
        cr_expect(eq(int, expect_failure(f, 0, 4096), MOULT_ERROR_CORRUPT));
        expect_read(f, data, MIB, 4096, 4096);
}

/* --- no tree --- */

Test(verified_file, without_a_tree_only_small_files_and_holes_can_be_read)
{
        static const uint64_t none[][2] = {{0, 0}};
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree uint8_t *data = content(MIB, 22), *zeros = g_malloc0(MIB);
        g_autoptr(PackWriter) w = begin(t, &bare);
        add_sparse(w, t, "hole", zeros, MIB, none);
        packs_add_file(w, "large", data, 4097);
        packs_add_file(w, "small", data, 4096);
        g_autoptr(PackSource) source = &seal(t, w)->base;
        g_autoptr(PackReader) r = reader_of(source);
        const Manifest *m = pack_reader_manifest(r);
        uint32_t large = (uint32_t)manifest_find(m, "large", 5);
        cr_expect(not(manifest_is_verifiable_by_block(m, m->entries[large])));
        cr_expect(eq(ptr, verified_file_open(r, large, &error), NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_UNSUPPORTED));
        g_autoptr(VerifiedFile) small = open_file(r, "small");
        expect_read(small, data, 4096, 0, 5000);
        if (m->entries[manifest_find(m, "hole", 4)]->blob != 0)
                cr_skip_test("this file system does not tell where holes are");
        g_autoptr(VerifiedFile) hole = open_file(r, "hole");
        expect_read(hole, zeros, MIB, 5, MIB);
}

/* --- threads, cancelling --- */

struct crowd {
        VerifiedFile *files[2];
        const uint8_t *data;
        size_t size;
        gint seed;  /* atomic */
        gint wrong; /* atomic */
};

static gpointer crowd_read(gpointer user)
{
        struct crowd *c = user;
        g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)g_atomic_int_add(&c->seed, 1));
        g_autofree uint8_t *buf = g_malloc(128 * KIB);
        for (int i = 0; i < 300; i++) {
                size_t got, len = (size_t)g_rand_int_range(rand, 1, 128 * KIB);
                uint64_t at = (uint64_t)g_rand_int_range(rand, 0, (gint32)(c->size - len));
                if (!verified_file_read(c->files[i % 2], at, buf, len, &got, NULL, NULL) || got != len ||
                    memcmp(buf, c->data + at, len) != 0)
                        g_atomic_int_inc(&c->wrong);
        }
        return NULL;
}

Test(verified_file, many_threads_may_read_the_same_file_at_once)
{
        g_autoptr(TempDir) t = tempdir_new();
        struct crowd c = {.size = 12 * MIB}; /* more chunks than are kept */
        g_autofree uint8_t *data = content(c.size, 23);
        c.data = data;
        g_autoptr(PackWriter) w = begin(t, &zstd);
        packs_add_file(w, "f", data, c.size);
        packs_add_file(w, "same", data, c.size);
        g_autoptr(PackSource) source = &seal(t, w)->base;
        g_autoptr(PackReader) r = reader_of(source);
        g_autoptr(VerifiedFile) f = open_file(r, "f"), same = open_file(r, "same");
        c.files[0] = f;
        c.files[1] = same;
        GThread *threads[6];
        for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
                threads[i] = g_thread_new("reader", crowd_read, &c);
        for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
                g_thread_join(threads[i]);
        cr_expect(eq(int, c.wrong, 0));
}

Test(verified_file, a_read_that_was_cancelled_says_so)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(GCancellable) cancellable = g_cancellable_new();
        g_autofree uint8_t *data = content(MIB, 24);
        g_autoptr(PackWriter) w = begin(t, &raw);
        packs_add_file(w, "f", data, MIB);
        g_autoptr(PackSource) source = &seal(t, w)->base;
        g_autoptr(PackReader) r = reader_of(source);
        g_autoptr(VerifiedFile) f = open_file(r, "f");
        uint8_t buf[10];
        size_t got;
        g_cancellable_cancel(cancellable);
        cr_assert(not(verified_file_read(f, 0, buf, sizeof buf, &got, cancellable, &error)));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_CANCELLED));
}
