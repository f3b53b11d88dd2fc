/* tests/unit/test_shm_pack_writer.c - what is added comes out again: content, holes, metadata, shared blobs.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <libfsverity.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/verity_layout.h"
#include "proto/message.h"
#include "tests/support/packs.h"

TestSuite(pack_writer, .timeout = 60);

#define MIB (1024u * 1024u)

static const struct pack_writer_options options = {.name = "test", .version = "1", .zstd_level = 1};

static PackWriter *new_writer(const char *path)
{
        g_autoptr(GError) error = NULL;
        PackWriter *w = pack_writer_new(path, &options, &error);
        cr_assert(ne(ptr, w, NULL), "%s", error != NULL ? error->message : "");
        return w;
}

static PackReader *finish_and_open(TempDir *t, PackWriter *w, const char *path)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(SigningKey) key = packs_key(t);
        g_autoptr(TrustStore) trust = packs_trust(t);
        cr_assert(pack_writer_finish(w, &key, 1, NULL, &error), "%s", error != NULL ? error->message : "");
        PackReader *r = packs_open(path, trust, &error);
        cr_assert(ne(ptr, r, NULL), "%s", error != NULL ? error->message : "");
        return r;
}

static const Moult__Entry *entry_of(PackReader *r, const char *path)
{
        gssize i = manifest_find(pack_reader_manifest(r), path, strlen(path));
        cr_assert(ge(sz, (size_t)(i + 1), 1), "%s is not listed", path);
        return pack_reader_manifest(r)->entries[i];
}

/* Bytes that zstd cannot make smaller, the same in every run. */
static uint8_t *noise(size_t len, guint32 seed)
{
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        uint8_t *p = g_malloc(len + 4);
        for (size_t i = 0; i < len; i += 4) {
                guint32 word = g_rand_int(rand);
                memcpy(p + i, &word, 4);
        }
        return p;
}

static void expect_content(PackReader *r, const char *path, const void *data, size_t len)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GBytes) content = packs_content(r, entry_of(r, path), &error);
        cr_assert(ne(ptr, content, NULL), "%s: %s", path, error != NULL ? error->message : "");
        cr_assert(eq(sz, g_bytes_get_size(content), len));
        cr_expect(len == 0 || memcmp(g_bytes_get_data(content, NULL), data, len) == 0, "%s differs", path);
}

Test(pack_writer, the_small_pack_reads_back)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *path = packs_small(t, digest);
        g_autoptr(TrustStore) trust = packs_trust(t);
        g_autoptr(PackReader) r = packs_open(path, trust, &error);
        cr_assert(ne(ptr, r, NULL), "%s", error != NULL ? error->message : "");
        cr_expect(packs_verify(r, &error));
        cr_expect(eq(int, memcmp(digest, pack_reader_header(r)->manifest_digest, sizeof digest), 0));

        const Manifest *m = pack_reader_manifest(r);
        cr_expect(eq(sz, m->n_entries, 11));
        cr_expect(eq(sz, m->n_blobs, 2));
        cr_expect(eq(u32, entry_of(r, "etc/raw")->blob, entry_of(r, "etc/same")->blob));
        cr_expect(eq(u32, entry_of(r, "etc/empty")->blob, 0));
        cr_expect(eq(int, m->blobs[entry_of(r, "etc/text")->blob - 1]->storage,
                     MOULT__BLOB_STORAGE__BLOB_ZSTD));
        cr_expect(
                eq(int, m->blobs[entry_of(r, "etc/raw")->blob - 1]->storage, MOULT__BLOB_STORAGE__BLOB_RAW));
        struct stat st;
        cr_assert(eq(int, stat(path, &st), 0));
        cr_expect(eq(u32, st.st_mode & 07777, 0444));
}

Test(pack_writer, sizes_around_blocks_and_chunks_read_back)
{
        static const size_t sizes[] = {0,       1,   4095,    4096,        4097,
                                       MIB - 1, MIB, MIB + 1, 3 * MIB + 5, 70 * MIB + 123};
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = tempdir_path(t, "p");
        g_autofree uint8_t *data = noise(70 * MIB + 123, 1);
        g_autofree uint8_t *text = g_malloc(70 * MIB + 123);
        for (size_t i = 0; i < 70 * MIB + 123; i++)
                text[i] = (uint8_t)('a' + i / 100 % 20);
        g_autoptr(PackWriter) w = new_writer(path);
        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_autofree char *raw = g_strdup_printf("raw-%zu", sizes[i]);
                g_autofree char *soft = g_strdup_printf("text-%zu", sizes[i]);
                packs_add_file(w, raw, data, sizes[i]);
                packs_add_file(w, soft, text, sizes[i]);
        }
        g_autoptr(GError) error = NULL;
        g_autoptr(PackReader) r = finish_and_open(t, w, path);
        cr_expect(packs_verify(r, &error), "%s", error != NULL ? error->message : "");
        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_autofree char *raw = g_strdup_printf("raw-%zu", sizes[i]);
                g_autofree char *soft = g_strdup_printf("text-%zu", sizes[i]);
                expect_content(r, raw, data, sizes[i]);
                expect_content(r, soft, text, sizes[i]);
        }
        const Manifest *m = pack_reader_manifest(r);
        const Moult__Blob *large = m->blobs[entry_of(r, "text-73400443")->blob - 1];
        cr_expect(eq(int, large->storage, MOULT__BLOB_STORAGE__BLOB_ZSTD));
        cr_expect(eq(sz, large->n_chunk_sizes, 71));
        cr_expect(eq(int, m->blobs[entry_of(r, "raw-73400443")->blob - 1]->storage,
                     MOULT__BLOB_STORAGE__BLOB_RAW));
}

Test(pack_writer, a_sparse_file_keeps_its_holes_and_only_its_data_is_stored)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *path = tempdir_path(t, "p");
        g_autoptr(PackWriter) w = new_writer(path);
        g_autofree uint8_t *data = noise(2 * MIB, 2);
        g_autofree uint8_t *logical = g_malloc0(20 * MIB + 10);
        scoped_fd int fd = openat(t->fd, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        cr_assert(eq(int, ftruncate(fd, 20 * MIB + 10), 0));
        cr_assert(fd_pwrite_all(fd, data, 2 * MIB, 5 * MIB + 8192, "sparse", &error));
        cr_assert(fd_pwrite_all(fd, data, 10, 20 * MIB, "sparse", &error));
        memcpy(logical + 5 * MIB + 8192, data, 2 * MIB);
        memcpy(logical + 20 * MIB, data, 10);

        Moult__Entry e = packs_entry(MOULT__ENTRY_TYPE__ENTRY_FILE, "sparse");
        cr_assert(pack_writer_add_entry(w, &e, fd, NULL, &error));
        scoped_fd int hole = openat(t->fd, "hole", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        cr_assert(eq(int, ftruncate(hole, 9 * MIB), 0));
        e = packs_entry(MOULT__ENTRY_TYPE__ENTRY_FILE, "hole");
        cr_assert(pack_writer_add_entry(w, &e, hole, NULL, &error));

        g_autoptr(PackReader) r = finish_and_open(t, w, path);
        cr_expect(packs_verify(r, &error), "%s", error != NULL ? error->message : "");
        expect_content(r, "sparse", logical, 20 * MIB + 10);
        const Moult__Entry *sparse = entry_of(r, "sparse");
        if (sparse->n_extents == 0)
                cr_skip_test("this file system does not tell where holes are");
        cr_expect(lt(u64, pack_reader_manifest(r)->blobs[sparse->blob - 1]->size, 3 * MIB));
        cr_expect(eq(u32, entry_of(r, "hole")->blob, 0));
        cr_expect(eq(u64, entry_of(r, "hole")->size, 9 * MIB));
}

Test(pack_writer, a_large_copy_costs_nothing)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = tempdir_path(t, "p");
        g_autoptr(PackWriter) w = new_writer(path);
        g_autofree uint8_t *data = noise(5 * MIB, 3);
        packs_add_file(w, "a", data, 5 * MIB);
        packs_add_file(w, "b", data, 5 * MIB);
        packs_add_file(w, "c", "tail", 4);
        g_autoptr(PackReader) r = finish_and_open(t, w, path);
        /* The content, "tail", and the tree of the content: ten leaves and a root. */
        cr_expect(eq(u64, pack_reader_header(r)->blobs_size, 5 * MIB + 4096 + 11 * 4096));
        expect_content(r, "b", data, 5 * MIB);
        expect_content(r, "c", "tail", 4);
}

/* What libfsverity says is compared with the stored bytes, block by block. */
struct tree_oracle {
        PackReader *reader;
        const uint8_t *content;
        size_t len, at;
        uint64_t offset, stored;
        unsigned n_blocks, n_wrong;
};

static int oracle_read(void *fd, void *buf, size_t count)
{
        struct tree_oracle *o = fd;
        memcpy(buf, o->content + o->at, count);
        o->at += count;
        return 0;
}

static int oracle_size(void *ctx, uint64_t size)
{
        ((struct tree_oracle *)ctx)->stored = size;
        return 0;
}

static int oracle_block(void *ctx, const void *block, size_t size, uint64_t offset)
{
        struct tree_oracle *o = ctx;
        uint8_t stored[VERITY_BLOCK_SIZE];
        gboolean read = size == sizeof stored &&
                        pack_reader_read_stored(o->reader, o->offset + offset, stored, size, NULL, NULL);
        o->n_wrong += !read || memcmp(stored, block, size) != 0;
        o->n_blocks++;
        return 0;
}

static void expect_tree(PackReader *r, const char *path, const void *content, size_t len)
{
        const Moult__Entry *e = entry_of(r, path);
        const Manifest *m = pack_reader_manifest(r);
        cr_assert(eq(int, manifest_has_tree(m, e), len > 4096), "%s", path);
        cr_expect(manifest_is_verifiable_by_block(m, e), "%s", path);
        if (len <= 4096)
                return;
        struct tree_oracle o = {
                .reader = r, .content = content, .len = len, .offset = m->blobs[e->blob - 1]->tree_offset};
        const struct libfsverity_metadata_callbacks callbacks = {
                .ctx = &o, .merkle_tree_size = oracle_size, .merkle_tree_block = oracle_block};
        const struct libfsverity_merkle_tree_params params = {
                .version = 1,
                .hash_algorithm = FS_VERITY_HASH_ALG_SHA256,
                .file_size = len,
                .block_size = VERITY_BLOCK_SIZE,
                .metadata_callbacks = &callbacks,
        };
        struct libfsverity_digest *d = NULL;
        cr_assert(eq(int, libfsverity_compute_digest(&o, oracle_read, &params, &d), 0));
        free(d);
        cr_expect(eq(u32, o.n_wrong, 0), "%s", path);
        cr_expect(eq(u64, (uint64_t)o.n_blocks * VERITY_BLOCK_SIZE, o.stored));
        cr_expect(eq(u64, verity_layout_stored_size(len), o.stored));
}

Test(pack_writer, its_trees_are_those_of_libfsverity)
{
        /* 512 KiB: the last with one leaf; 64 MiB: the last with two levels. Repeated: a copy shares its
         * tree. */
        static const size_t sizes[] = {4096,    4097,       8192,         MIB / 2,        MIB / 2 + 1,
                                       MIB + 1, 3 * MIB,    4097,         64 * MIB,       64 * MIB + 1,
                                       5,       MIB - 4096, 66 * MIB + 9, 3 * MIB + 4096, 0};
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = tempdir_path(t, "p");
        g_autofree uint8_t *data = noise(67 * MIB, 11);
        memset(data + MIB, 'a', MIB); /* what compresses is hashed as it was */
        g_autoptr(PackWriter) w = new_writer(path);
        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_autofree char *name = g_strdup_printf("%02zu", i);
                packs_add_file(w, name, data, sizes[i]);
        }
        g_autoptr(PackReader) r = finish_and_open(t, w, path);
        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_autofree char *name = g_strdup_printf("%02zu", i);
                expect_tree(r, name, data, sizes[i]);
        }
        cr_expect(eq(u32, entry_of(r, "01")->blob, entry_of(r, "07")->blob));
}

/* A file with these pieces of data in it, MIB each. */
static void add_sparse(PackWriter *w, TempDir *t, const char *path, uint64_t size, const uint64_t *at,
                       size_t n, const uint8_t *data)
{
        g_autoptr(GError) error = NULL;
        scoped_fd int fd = openat(t->fd, "sparse", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        cr_assert(eq(int, ftruncate(fd, (off_t)size), 0));
        for (size_t i = 0; i < n; i++)
                cr_assert(fd_pwrite_all(fd, data, MIN(MIB, size - at[i]), (off_t)at[i], "sparse", &error));
        Moult__Entry e = packs_entry(MOULT__ENTRY_TYPE__ENTRY_FILE, path);
        cr_assert(pack_writer_add_entry(w, &e, fd, NULL, &error));
}

Test(pack_writer, the_tree_of_a_sparse_file_is_over_its_holes_too)
{
        static const uint64_t at[] = {0, 3 * MIB + 8192, 5 * MIB, 12 * MIB}, one[] = {7 * MIB};
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = tempdir_path(t, "p");
        g_autofree uint8_t *data = noise(MIB, 12), *logical = g_malloc0(12 * MIB + 10),
                           *end = g_malloc0(12 * MIB);
        g_autoptr(PackWriter) w = new_writer(path);
        packs_add_file(w, "a", data, 100000);
        add_sparse(w, t, "b", 12 * MIB + 10, at, 4, data);
        packs_add_file(w, "c", data, 200000);
        add_sparse(w, t, "d", 12 * MIB, one, 1, data); /* ends in a hole */
        packs_add_file(w, "e", data, 300000);
        for (size_t i = 0; i < G_N_ELEMENTS(at); i++)
                memcpy(logical + at[i], data, MIN(MIB, 12 * MIB + 10 - at[i]));
        memcpy(end + one[0], data, MIB);
        g_autoptr(PackReader) r = finish_and_open(t, w, path);
        expect_tree(r, "a", data, 100000);
        expect_tree(r, "b", logical, 12 * MIB + 10);
        expect_tree(r, "c", data, 200000);
        expect_tree(r, "d", end, 12 * MIB);
        expect_tree(r, "e", data, 300000);
}

Test(pack_writer, a_file_that_is_nearly_all_hole_has_no_tree)
{
        static const uint64_t at[] = {MIB};
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = tempdir_path(t, "p");
        g_autofree uint8_t *data = noise(MIB, 13);
        g_autoptr(PackWriter) w = new_writer(path);
        add_sparse(w, t, "wide", UINT64_C(1) << 40, at, 1, data);
        g_autoptr(PackReader) r = finish_and_open(t, w, path);
        const Manifest *m = pack_reader_manifest(r);
        if (entry_of(r, "wide")->n_extents == 0)
                cr_skip_test("this file system does not tell where holes are");
        cr_expect(not(manifest_has_tree(m, entry_of(r, "wide"))));
        cr_expect(not(manifest_is_verifiable_by_block(m, entry_of(r, "wide"))));
        cr_expect(lt(u64, pack_reader_header(r)->pack_size, 2 * MIB));
}

Test(pack_writer, without_trees_only_files_of_one_block_can_be_read_by_block)
{
        const struct pack_writer_options bare = {.name = "test", .version = "1", .no_trees = TRUE};
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *path = tempdir_path(t, "p");
        g_autofree uint8_t *data = noise(MIB, 14);
        g_autoptr(PackWriter) w = pack_writer_new(path, &bare, &error);
        packs_add_file(w, "large", data, MIB);
        packs_add_file(w, "small", data, 4096);
        packs_add_file(w, "empty", data, 0);
        g_autoptr(PackReader) r = finish_and_open(t, w, path);
        const Manifest *m = pack_reader_manifest(r);
        cr_expect(packs_verify(r, &error));
        cr_expect(eq(u64, pack_reader_header(r)->blobs_size, MIB + 4096));
        cr_expect(not(manifest_is_verifiable_by_block(m, entry_of(r, "large"))));
        cr_expect(manifest_is_verifiable_by_block(m, entry_of(r, "small")));
        cr_expect(manifest_is_verifiable_by_block(m, entry_of(r, "empty")));
}

Test(pack_writer, the_same_input_gives_the_same_bytes)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree uint8_t *data = noise(3 * MIB, 4);
        g_autofree char *first = NULL;
        gsize first_len = 0;
        for (int round = 0; round < 2; round++) {
                g_autofree char *path = tempdir_path(t, "p");
                g_autoptr(PackWriter) w = new_writer(path);
                g_autofree char *bytes = NULL;
                gsize len;
                packs_add_file(w, "a", data, 3 * MIB);
                packs_add_file(w, "b", data, 100000);
                g_autoptr(PackReader) r = finish_and_open(t, w, path);
                cr_assert(g_file_get_contents(path, &bytes, &len, &error));
                if (round == 0) {
                        first = g_steal_pointer(&bytes);
                        first_len = len;
                        continue;
                }
                cr_assert(eq(sz, len, first_len));
                cr_expect(eq(int, memcmp(bytes, first, len), 0));
        }
}

Test(pack_writer, without_finish_nothing_is_left)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = tempdir_path(t, "p");
        g_clear_pointer(&(PackWriter *){new_writer(path)}, pack_writer_free);
        g_autoptr(GDir) dir = g_dir_open(t->path, 0, NULL);
        const char *name = g_dir_read_name(dir);
        cr_expect(eq(ptr, (void *)name, NULL));
}

Test(pack_writer, its_own_gate_refuses_a_hard_link_to_nothing)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *path = tempdir_path(t, "p");
        g_autoptr(PackWriter) w = new_writer(path);
        Moult__Entry e = packs_entry(MOULT__ENTRY_TYPE__ENTRY_HARDLINK, "a");
        e.link_target = message_bytes("missing");
        packs_add(w, &e);
        cr_assert(not(pack_writer_finish(w, NULL, 0, NULL, &error)));
        cr_expect(ne(ptr, strstr(error->message, "entry a: hard link to a path that is not listed"), NULL));
        cr_expect(not(g_file_test(path, G_FILE_TEST_EXISTS)));
}

Test(pack_writer, after_a_failed_entry_it_cannot_be_sealed)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *path = tempdir_path(t, "p");
        g_autoptr(PackWriter) w = new_writer(path);
        Moult__Entry e = packs_entry(MOULT__ENTRY_TYPE__ENTRY_FILE, "a");
        cr_assert(not(pack_writer_add_entry(w, &e, t->fd, NULL, &error)));
        g_clear_error(&error);
        cr_assert(not(pack_writer_finish(w, NULL, 0, NULL, &error)));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_WRONG_STATE));
}

#ifdef MOULT_FAULT_POINTS
static void expect_nothing_after(const char *fault, size_t len)
{
        g_autofree uint8_t *content = noise(len, 9);
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *path = tempdir_path(t, "p");
        g_setenv("MOULT_FAULT", fault, TRUE);
        g_autoptr(PackWriter) w = new_writer(path);
        packs_add_file(w, "a", content, len);
        cr_assert(not(pack_writer_finish(w, NULL, 0, NULL, &error)));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_NO_SPACE));
        g_clear_pointer(&w, pack_writer_free);
        g_autoptr(GDir) dir = g_dir_open(t->path, 0, NULL);
        const char *name = g_dir_read_name(dir);
        cr_expect(eq(ptr, (void *)name, NULL));
}

Test(pack_writer, a_full_disk_leaves_nothing)
{
        expect_nothing_after("pack-writer.write=enospc", 7);
}

Test(pack_writer, a_disk_that_is_full_for_the_trees_leaves_nothing)
{
        expect_nothing_after("pack-writer.tree=enospc", 9000);
}

Test(pack_writer, a_disk_that_is_full_when_the_trees_are_appended_leaves_nothing)
{
        expect_nothing_after("pack-writer.tree-append=enospc", 9000);
}

Test(pack_writer, a_failed_sync_leaves_nothing)
{
        expect_nothing_after("pack-writer.sync=enospc", 7);
}
#endif
