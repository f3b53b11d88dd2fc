/* tests/unit/test_shm_pmem_window.c - which of the persistent memory devices holds the pack that was offered.
 *
 * A device node is played by a file: its device number is 0:0, which sysfs is made to say as well. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "proto/channel.pb-c.h"
#include "shm/pmem_window.h"
#include "tests/support/packs.h"

TestSuite(pmem_window, .timeout = 20);

#define MIB (1024u * 1024u)

static void put_sysfs(TempDir *t, const char *name, const char *number)
{
        g_autofree char *dir = g_strdup_printf("block/%s", name), *path = tempdir_path(t, dir),
                        *dev = g_strdup_printf("%s/dev", dir);

        cr_assert(zero(int, g_mkdir_with_parents(path, 0755)));
        tempdir_put(t, dev, number, strlen(number));
}

/* @pack NULL: a device of zeros. */
static void put_device(TempDir *t, const char *name, const char *pack)
{
        g_autofree char *node = g_strdup_printf("dev/%s", name), *path = tempdir_path(t, node),
                        *dir = tempdir_path(t, "dev"), *content = NULL;
        gsize len = 0;

        cr_assert(zero(int, g_mkdir_with_parents(dir, 0755)));
        put_sysfs(t, name, "0:0\n");
        if (pack)
                cr_assert(g_file_get_contents(pack, &content, &len, NULL));
        tempdir_put(t, node, content ? content : "", len);
        cr_assert(zero(int, truncate(path, 2 * MIB)));
}

static PackSource *open_window(TempDir *t, const uint8_t *digest, gboolean strict, GError **error)
{
        g_autofree char *block = tempdir_path(t, "block"), *dev = tempdir_path(t, "dev");

        return pmem_window_open(block, dev, digest, strict, error);
}

static void expect_not_found(TempDir *t, const uint8_t *digest, const char *text)
{
        g_autoptr(GError) error = NULL;

        cr_assert(eq(ptr, open_window(t, digest, FALSE, &error), NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_NOT_FOUND), "%s", error->message);
        cr_expect(ne(ptr, strstr(error->message, text), NULL), "%s", error->message);
}

Test(pmem_window, the_device_with_the_offered_pack_is_found_among_others)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *pack = packs_small(t, digest);

        put_device(t, "pmem0", NULL); /* a real NVDIMM, say */
        put_device(t, "vda", pack);   /* a disk that holds a copy */
        put_device(t, "pmem3", pack);
        g_autoptr(PackSource) s = open_window(t, digest, FALSE, &error);
        cr_assert(ne(ptr, s, NULL), "%s", error ? error->message : "");
        cr_expect(eq(int, s->ops->kind, MOULT__SOURCE_KIND__SOURCE_PMEM));
        cr_expect(eq(u64, s->size, 2 * MIB));
        g_autoptr(TrustStore) trust = packs_trust(t);
        g_autoptr(PackReader) r = pack_reader_open(s, trust, digest, NULL, &error);
        cr_expect(ne(ptr, r, NULL), "%s", error ? error->message : "");
}

Test(pmem_window, any_range_is_read_as_it_is)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *pack = packs_small(t, digest), *node = tempdir_path(t, "dev/pmem0");
        g_autofree guint8 *all = g_malloc(2 * MIB), *got = g_malloc(2 * MIB);
        static const struct {
                guint offset, len;
        } ranges[] = {
                {0, 1},           {0, 2 * MIB},     {4095, 2},         {4096, 4096},     {1, 256 * 1024},
                {4097, 4 * 4096}, {1, 2 * MIB - 1}, {77, MIB + 13},    {2 * MIB - 1, 1}, {5, 0},
                {256 * 1024, 1},  {MIB, MIB},       {4095, 256 * 1024}};

        put_device(t, "pmem0", pack);
        int fd = open(node, O_RDWR | O_CLOEXEC);
        for (guint i = 4096; i < 2 * MIB; i++)
                all[i] = (guint8)(i * 2654435761u >> 13);
        cr_assert(eq(int, (int)pread(fd, all, 4096, 0), 4096));
        cr_assert(eq(int, (int)pwrite(fd, all, 2 * MIB, 0), (int)(2 * MIB)));
        close(fd);
        g_autoptr(PackSource) s = open_window(t, digest, FALSE, &error);
        cr_assert(ne(ptr, s, NULL), "%s", error ? error->message : "");
        for (gsize i = 0; i < G_N_ELEMENTS(ranges); i++) {
                memset(got, 0xaa, 2 * MIB);
                cr_assert(pack_source_read(s, ranges[i].offset, got + 1, ranges[i].len - (i == 1), NULL,
                                           &error),
                          "%s", error ? error->message : "");
                cr_expect(zero(int, memcmp(got + 1, all + ranges[i].offset, ranges[i].len - (i == 1))),
                          "%u + %u", ranges[i].offset, ranges[i].len);
        }
        cr_expect(not(pack_source_read(s, 2 * MIB - 1, got, 2, NULL, &error)));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_CORRUPT));
}

/* What a device that is taken away in the middle looks like: the rest cannot be read. */
Test(pmem_window, a_device_that_is_gone_is_an_error_of_the_read)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *pack = packs_small(t, digest), *node = tempdir_path(t, "dev/pmem0");
        guint8 buf[100];

        put_device(t, "pmem0", pack);
        g_autoptr(PackSource) s = open_window(t, digest, FALSE, &error);
        cr_assert(ne(ptr, s, NULL), "%s", error ? error->message : "");
        cr_assert(zero(int, truncate(node, 4096)));
        cr_expect(pack_source_read(s, 100, buf, sizeof buf, NULL, &error));
        cr_expect(not(pack_source_read(s, MIB, buf, sizeof buf, NULL, &error)));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_IO));
}

Test(pmem_window, without_a_fitting_device_it_says_not_found)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *pack = packs_small(t, digest);

        cr_assert(eq(ptr, pmem_window_open("/nonexistent", "/nonexistent", digest, FALSE, &error), NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_NOT_FOUND));
        put_device(t, "pmem0", pack);
        put_device(t, "pmem1p1", pack);
        put_device(t, "pmem2s", pack);
        put_device(t, "pmem", pack);
        digest[5] ^= 1;
        expect_not_found(t, digest, "1 devices");
        digest[5] ^= 1;
        g_autoptr(PackSource) s = open_window(t, digest, FALSE, NULL);
        cr_expect(ne(ptr, s, NULL));
}

/* sysfs has a hot-plugged device a moment before /dev has its node. */
Test(pmem_window, a_device_without_its_node_is_not_found_yet)
{
        g_autoptr(TempDir) t = tempdir_new();
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *pack = packs_small(t, digest);

        put_sysfs(t, "pmem0", "0:0\n");
        expect_not_found(t, digest, "not there yet");
        put_device(t, "pmem0", pack);
        g_autoptr(PackSource) s = open_window(t, digest, FALSE, NULL);
        cr_expect(ne(ptr, s, NULL));
}

Test(pmem_window, a_node_of_another_device_is_not_read)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *pack = packs_small(t, digest);

        put_device(t, "pmem0", pack);
        put_sysfs(t, "pmem0", "259:0\n");
        cr_assert(eq(ptr, open_window(t, digest, FALSE, &error), NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_REFUSED), "%s", error->message);
        g_clear_error(&error);
        put_sysfs(t, "pmem0", "nonsense");
        cr_assert(eq(ptr, open_window(t, digest, FALSE, &error), NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_NOT_FOUND), "%s", error->message);
}

Test(pmem_window, a_device_that_is_smaller_than_its_header_says_is_passed_over)
{
        g_autoptr(TempDir) t = tempdir_new();
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *pack = packs_small(t, digest), *node = tempdir_path(t, "dev/pmem0");

        put_device(t, "pmem0", pack);
        cr_assert(zero(int, truncate(node, 4096)));
        expect_not_found(t, digest, "no persistent memory");
        cr_assert(zero(int, truncate(node, 100)));
        expect_not_found(t, digest, "no persistent memory");
}

Test(pmem_window, a_device_that_can_be_written_is_refused_in_strict_mode_and_left_as_it_was)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *pack = packs_small(t, digest), *node = tempdir_path(t, "dev/pmem0"), *before = NULL,
                        *after = NULL;
        gsize n_before, n_after;

        put_device(t, "pmem0", pack);
        cr_assert(g_file_get_contents(node, &before, &n_before, NULL));
        cr_assert(eq(ptr, open_window(t, digest, TRUE, &error), NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_REFUSED));
        cr_expect(ne(ptr, strstr(error->message, "readonly=on"), NULL), "%s", error->message);
        cr_assert(g_file_get_contents(node, &after, &n_after, NULL));
        cr_assert(eq(sz, n_after, n_before));
        cr_expect(zero(int, memcmp(after, before, n_after)));
}
