/* tests/unit/test_disk_disk_map.c - what the images of a chain have, by qcow2 files that qemu-io wrote. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <unistd.h>

#include "common/error.h"
#include "tests/support/disk_images.h"

TestSuite(disk_disk_map, .timeout = 120);

#define COMMANDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void expect_map(Disk *d, guint depth, const char *expected)
{
        g_autofree char *text = map_text(d, depth);

        cr_expect(eq(str, text, (char *)expected), "depth %u: %s, not %s", depth, text, expected);
}

Test(disk_disk_map, tells_data_zeros_and_nothing_apart)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "1M", NULL);

        image_io(path, "qcow2",
                 COMMANDS("write -P 1 0 64k", "write -z 128k 64k", "write -P 0 256k 64k",
                          "write -P 2 960k 64k"));
        g_autoptr(Disk) d = disk_must_open(path, NULL, FALSE);
        expect_map(d, 1, "D0+64 A64+64 Z128+64 A192+64 D256+64 A320+640 D960+64");
        expect_map(d, DISK_ALL, "D0+64 A64+64 Z128+64 A192+64 D256+64 A320+640 D960+64");
}

Test(disk_disk_map, an_empty_image_has_nothing)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "5G", NULL);
        g_autoptr(Disk) d = disk_must_open(path, NULL, FALSE);

        expect_map(d, 1, "A0+5242880");
}

Test(disk_disk_map, a_depth_of_one_is_the_newest_image_and_two_are_both)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *below = image_make(t, "below.qcow2", "1M", NULL);
        g_autofree char *top = image_make(t, "top.qcow2", "1M", NULL);

        image_io(below, "qcow2", COMMANDS("write -P 1 0 256k", "write -z 512k 128k"));
        image_io(top, "qcow2", COMMANDS("write -P 2 64k 64k", "write -z 128k 64k", "write -P 3 512k 64k"));
        g_autoptr(Disk) d = disk_must_open(top, below, FALSE);
        expect_map(d, 1, "A0+64 D64+64 Z128+64 A192+320 D512+64 A576+448");
        expect_map(d, 2, "D0+128 Z128+64 D192+64 A256+256 D512+64 Z576+64 A640+384");
        /* The lower one alone, however the other one lies on it. */
        g_autoptr(Disk) lower = disk_must_open(below, NULL, FALSE);
        expect_map(lower, 1, "D0+256 A256+256 Z512+128 A640+384");
}

Test(disk_disk_map, clusters_may_be_of_2_MiB_or_have_subclusters)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *large = image_make(t, "large.qcow2", "16M", "cluster_size=2M");
        g_autofree char *sub = image_make(t, "sub.qcow2", "1M", "cluster_size=64k,extended_l2=on");

        image_io(large, "qcow2", COMMANDS("write -P 1 2M 4k", "write -z 6M 2M"));
        g_autoptr(Disk) a = disk_must_open(large, NULL, FALSE);
        expect_map(a, 1, "A0+2048 D2048+2048 A4096+2048 Z6144+2048 A8192+8192");
        image_io(sub, "qcow2", COMMANDS("write -P 1 4k 2k", "write -z 8k 2k"));
        g_autoptr(Disk) b = disk_must_open(sub, NULL, FALSE);
        expect_map(b, 1, "A0+4 D4+2 A6+2 Z8+2 A10+1014");
}

Test(disk_disk_map, what_was_discarded_hides_what_lies_below)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *below = image_make(t, "below.qcow2", "256k", NULL);
        g_autofree char *top = tempdir_path(t, "top.qcow2");

        image_io(below, "qcow2", COMMANDS("write -P 1 0 256k"));
        tool_run((const char *const[]){"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below,
                                       top, NULL});
        image_io(top, "qcow2", COMMANDS("write -P 2 0 64k", "discard 0 64k", "discard 128k 64k"));
        g_autoptr(Disk) d = disk_must_open(top, below, FALSE);
        expect_map(d, 1, "Z0+64 A64+64 Z128+64 A192+64");
}

Test(disk_disk_map, compressed_clusters_are_data)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "1M", NULL);
        g_autofree char *zstd = image_make(t, "z.qcow2", "1M", "compression_type=zstd");

        image_io(path, "qcow2", COMMANDS("write -c -P 1 64k 64k", "write -c -P 1 128k 64k"));
        image_io(zstd, "qcow2", COMMANDS("write -c -P 1 64k 64k"));
        g_autoptr(Disk) a = disk_must_open(path, NULL, FALSE);
        g_autoptr(Disk) b = disk_must_open(zstd, NULL, FALSE);
        expect_map(a, 1, "A0+64 D64+128 A192+832");
        expect_map(b, 1, "A0+64 D64+64 A128+896");
}

Test(disk_disk_map, a_raw_image_has_everything)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = tempdir_path(t, "a.raw");
        const struct disk_image chain[] = {{path, "raw"}};
        g_autoptr(GError) error = NULL;

        tool_run((const char *const[]){"truncate", "-s", "1M", path, NULL});
        image_io(path, "raw", COMMANDS("write -P 1 256k 64k"));
        g_autoptr(Disk) d = disk_open(chain, 1, NULL, NULL, &error);
        cr_assert(d != NULL, "%s", error ? error->message : "");
        expect_map(d, 1, "Z0+256 D256+64 Z320+704");
}

Test(disk_disk_map, a_layer_may_be_larger_than_what_it_stands_on)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *below = image_make(t, "below.qcow2", "128k", NULL);
        g_autofree char *top = image_make(t, "top.qcow2", "1M", NULL);

        image_io(below, "qcow2", COMMANDS("write -P 1 0 64k"));
        image_io(top, "qcow2", COMMANDS("write -P 1 512k 64k"));
        g_autoptr(Disk) d = disk_must_open(top, below, FALSE);
        expect_map(d, 1, "A0+512 D512+64 A576+448");
}

Test(disk_disk_map, many_pieces_come_in_several_answers)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "3G", "cluster_size=4k");
        g_autoptr(GError) error = NULL;
        guint64 data = 0, end = 0;

        Disk *w = disk_must_open(path, NULL, TRUE);
        for (guint64 at = 0; at < 3ull << 30; at += 8 << 20)
                for (guint i = 0; i < 8; i++)
                        cr_assert(disk_write(w, at + (guint64)i * 8192, "x", 1, NULL, &error), "%s",
                                  error->message);
        cr_assert(disk_close(w, &error), "%s", error ? error->message : "");
        g_autoptr(Disk) d = disk_must_open(path, NULL, FALSE);
        g_autoptr(GArray) map = disk_map(d, 1, NULL, &error);
        cr_assert(map != NULL, "%s", error ? error->message : "");
        for (guint i = 0; i < map->len; i++) {
                const struct disk_range *r = &g_array_index(map, struct disk_range, i);
                cr_assert(eq(u64, r->offset, end));
                end += r->length;
                data += r->kind == DISK_DATA;
        }
        cr_expect(eq(u64, end, 3ull << 30));
        cr_expect(eq(u64, data, 3072));
}
