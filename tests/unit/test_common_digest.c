/* tests/unit/test_common_digest.c - the verity tree against libfsverity, which computes the same another way.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <libfsverity.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/fd.h"
#include "tests/support/tempdir.h"

TestSuite(digest, .timeout = 120);

#define MIB (1024u * 1024u)

static int read_fd(void *fd, void *buf, size_t count)
{
        return fd_pread_all(*(int *)fd, buf, count, lseek(*(int *)fd, 0, SEEK_CUR), "oracle", NULL) &&
                               lseek(*(int *)fd, (off_t)count, SEEK_CUR) >= 0
                       ? 0
                       : -1;
}

static void oracle(int fd, uint64_t size, uint8_t ret[static DIGEST_SIZE])
{
        struct libfsverity_merkle_tree_params params = {
                .version = 1,
                .hash_algorithm = FS_VERITY_HASH_ALG_SHA256,
                .file_size = size,
                .block_size = VERITY_BLOCK_SIZE,
        };
        struct libfsverity_digest *d = NULL;
        lseek(fd, 0, SEEK_SET);
        cr_assert(eq(int, libfsverity_compute_digest(&fd, read_fd, &params, &d), 0));
        memcpy(ret, d->digest, DIGEST_SIZE);
        free(d);
}

static void expect_like_oracle(int fd, uint64_t size)
{
        g_autoptr(Hasher) h = hasher_new();
        g_autoptr(GError) error = NULL;
        uint8_t ours[DIGEST_SIZE], theirs[DIGEST_SIZE];
        cr_assert(verity_digest_fd(h, fd, size, ours, NULL, &error), "%s",
                  error != NULL ? error->message : "");
        oracle(fd, size, theirs);
        cr_expect(memcmp(ours, theirs, sizeof ours) == 0, "size %" G_GUINT64_FORMAT, size);
}

Test(digest, agrees_with_libfsverity_for_sizes_at_every_edge)
{
        /* 128 blocks: one block of level 1; 16384 blocks: one block of level 2. */
        static const size_t sizes[] = {0,
                                       1,
                                       4095,
                                       4096,
                                       4097,
                                       128 * 4096 - 1,
                                       128 * 4096,
                                       128 * 4096 + 1,
                                       MIB - 1,
                                       MIB,
                                       MIB + 1,
                                       3 * MIB + 7,
                                       64 * MIB - 1,
                                       64 * MIB,
                                       64 * MIB + 1,
                                       65 * MIB + 4097};
        g_autoptr(GRand) rand = g_rand_new_with_seed(1);
        g_autofree guint32 *data = g_malloc(66 * MIB);
        for (size_t i = 0; i < 66 * MIB / 4; i++)
                data[i] = g_rand_int(rand);
        g_autoptr(Hasher) h = hasher_new();
        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                scoped_fd int fd = memfd_create("data", MFD_CLOEXEC);
                uint8_t of_fd[DIGEST_SIZE], of_buffer[DIGEST_SIZE];
                cr_assert(fd_write_all(fd, data, sizes[i], "data", NULL));
                expect_like_oracle(fd, sizes[i]);
                cr_assert(verity_digest_fd(h, fd, sizes[i], of_fd, NULL, NULL));
                verity_digest_buffer(h, data, sizes[i], of_buffer);
                cr_expect(eq(int, memcmp(of_fd, of_buffer, DIGEST_SIZE), 0));
        }
}

Test(digest, agrees_with_libfsverity_for_sparse_files)
{
        static const struct {
                uint64_t size, data_at[4];
        } cases[] = {
                {1, {0}},
                {4097, {4096}},
                {10 * MIB + 1, {5 * MIB + 17, 10 * MIB}},
                {10 * MIB + 1, {0}},
                {130 * MIB, {0}},
                {200 * MIB + 4095, {1, 64 * MIB, 129 * MIB - 1, 200 * MIB}},
        };
        g_autoptr(TempDir) t = tempdir_new();
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                scoped_fd int fd = openat(t->fd, "sparse", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
                cr_assert(eq(int, ftruncate(fd, (off_t)cases[i].size), 0));
                for (size_t j = 0; j < 4 && cases[i].data_at[j] != 0; j++)
                        cr_assert(fd_pwrite_all(fd, "x", 1, (off_t)cases[i].data_at[j], "sparse", NULL));
                expect_like_oracle(fd, cases[i].size);
        }
}

Test(digest, an_all_zero_file_has_one_digest_as_hole_as_zero_chunks_and_as_data)
{
        g_autoptr(Hasher) h = hasher_new();
        g_autofree uint8_t *zeros = g_malloc0(2 * MIB + 5);
        g_autoptr(VerityTree) hole = verity_tree_new(2 * MIB + 5);
        g_autoptr(VerityTree) chunks = verity_tree_new(2 * MIB + 5);
        uint8_t a[DIGEST_SIZE], b[DIGEST_SIZE], c[DIGEST_SIZE];
        verity_digest_buffer(h, zeros, 2 * MIB + 5, a);
        verity_tree_digest(hole, h, b);
        for (uint64_t i = 0; i < 3; i++)
                verity_tree_add_zero_chunk(chunks, h, i);
        verity_tree_digest(chunks, h, c);
        cr_expect(eq(int, memcmp(a, b, sizeof a), 0));
        cr_expect(eq(int, memcmp(a, c, sizeof a), 0));
}

Test(digest, sixteen_tebibytes_of_nothing_are_cheap)
{
        g_autoptr(Hasher) h = hasher_new();
        g_autoptr(VerityTree) t = verity_tree_new(UINT64_C(1) << 44);
        uint8_t d[DIGEST_SIZE];
        char hex[2 * DIGEST_SIZE + 1];
        verity_tree_digest(t, h, d);
        digest_to_hex(d, hex);
        /* From an independent computation: the digests of zero blocks, level by level, in Python's hashlib.
         */
        cr_expect(eq(str, hex, "36bd1d8c1c20c3e782e617d74a19cfa94e92d0c865ef73e0fd2eb22939d7e4a6"));
}

struct worker {
        VerityTree *tree;
        const uint8_t *data;
        uint64_t first;
};

static gpointer add_every_third(gpointer user)
{
        struct worker *w = user;
        g_autoptr(Hasher) h = hasher_new();
        for (uint64_t i = w->first; i < 9; i += 3)
                verity_tree_add_chunk(w->tree, h, 8 - i, w->data + (8 - i) * CHUNK_SIZE, CHUNK_SIZE);
        return NULL;
}

Test(digest, chunks_may_come_from_several_threads_in_any_order)
{
        g_autoptr(Hasher) h = hasher_new();
        g_autofree uint8_t *data = g_malloc(9 * MIB);
        uint8_t expected[DIGEST_SIZE], got[DIGEST_SIZE];
        for (size_t i = 0; i < 9 * MIB; i++)
                data[i] = (uint8_t)(i * 7 / 5);
        verity_digest_buffer(h, data, 9 * MIB, expected);
        g_autoptr(VerityTree) t = verity_tree_new(9 * MIB);
        struct worker workers[3];
        GThread *threads[3];
        for (unsigned i = 0; i < 3; i++) {
                workers[i] = (struct worker){t, data, i};
                threads[i] = g_thread_new("add", add_every_third, &workers[i]);
        }
        for (unsigned i = 0; i < 3; i++)
                g_thread_join(threads[i]);
        verity_tree_digest(t, h, got);
        cr_expect(eq(int, memcmp(got, expected, sizeof got), 0));
}

Test(digest, a_file_of_another_size_is_corrupt)
{
        g_autoptr(Hasher) h = hasher_new();
        g_autoptr(GError) error = NULL;
        uint8_t d[DIGEST_SIZE] = {77};
        scoped_fd int fd = memfd_create("data", MFD_CLOEXEC);
        cr_assert(fd_write_all(fd, "12345", 5, "data", NULL));
        cr_assert(not(verity_digest_fd(h, fd, 6, d, NULL, &error)));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_CORRUPT));
        cr_expect(eq(u8, d[0], 77));
}

Test(digest, hex_goes_both_ways_and_refuses_what_is_none)
{
        uint8_t d[DIGEST_SIZE], back[DIGEST_SIZE];
        char hex[2 * DIGEST_SIZE + 1];
        for (unsigned i = 0; i < DIGEST_SIZE; i++)
                d[i] = (uint8_t)(i * 9);
        digest_to_hex(d, hex);
        cr_assert(digest_from_hex(hex, back));
        cr_expect(eq(int, memcmp(d, back, sizeof d), 0));
        hex[63] = 'g';
        cr_expect(not(digest_from_hex(hex, back)));
        hex[63] = '\0';
        cr_expect(not(digest_from_hex(hex, back)));
}
