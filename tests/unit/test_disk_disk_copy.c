/* tests/unit/test_disk_disk_copy.c - disks copied by their maps, and compared. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <string.h>

#include "common/error.h"
#include "tests/support/disk_images.h"

TestSuite(disk_disk_copy, .timeout = 120);

#define COMMANDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define MUST(call)    cr_assert(call, "%s", error ? error->message : "no error")

static void expect_error(const GError *error, int code, const char *word)
{
        cr_assert(error != NULL);
        cr_expect(error->domain == MOULT_ERROR && error->code == code, "%d: %s", error->code, error->message);
        cr_expect(strstr(error->message, word) != NULL, "%s", error->message);
}

static guint64 difference(Disk *a, Disk *b, const GArray *map)
{
        g_autoptr(GError) error = NULL;
        guint64 at = 0;

        MUST(disk_compare(a, b, map, &at, NULL, NULL, &error));
        return at;
}

/* Random bytes, zeros and holes: ranges of odd lengths, from a seed. */
static void scribble(Disk *d, guint32 seed, guint n)
{
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        g_autofree guint32 *bytes = g_new(guint32, (3 << 20) / 4);
        g_autoptr(GError) error = NULL;

        for (guint i = 0; i < (3 << 20) / 4; i++)
                bytes[i] = g_rand_int(rand);
        for (guint i = 0; i < n; i++) {
                guint32 at = (guint32)g_rand_int_range(rand, 0, 60 << 20),
                        len = (guint32)g_rand_int_range(rand, 1, 3 << 20);
                if (g_rand_boolean(rand))
                        MUST(disk_write(d, at, bytes, len, NULL, &error));
                else
                        MUST(disk_zero(d, at, len, NULL, &error));
        }
}

/* The merge of docs/snapshots.md: what @layer has is put over a copy of @history; both over the same base. */
Test(disk_disk_copy, a_layer_merged_into_a_copy_of_history_reads_as_the_chain_did)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *base = image_make(t, "base.qcow2", "64M", NULL);
        g_autofree char *history = image_make(t, "history.qcow2", "64M", NULL);
        g_autofree char *layer = image_make(t, "layer.qcow2", "64M", "cluster_size=128k");
        g_autofree char *result = tempdir_path(t, "result.qcow2");
        const struct disk_image chain[] = {{layer, "qcow2"}, {history, "qcow2"}, {base, "qcow2"}};
        const struct disk_image below[] = {{history, "qcow2"}, {base, "qcow2"}};
        g_autoptr(GError) error = NULL;
        gint64 done = 0;

        Disk *d = disk_must_open(base, NULL, TRUE);
        scribble(d, 1, 20);
        MUST(disk_close(d, &error));
        d = disk_must_open(history, base, TRUE);
        scribble(d, 2, 20);
        MUST(disk_close(d, &error));
        d = disk_open(chain, 3, &(struct disk_options){.writable = TRUE}, NULL, &error);
        MUST(d != NULL);
        scribble(d, 3, 10);
        MUST(disk_close(d, &error));

        tool_run((const char *const[]){"cp", history, result, NULL});
        g_autoptr(Disk) whole = disk_open(chain, 3, NULL, NULL, &error);
        MUST(whole != NULL);
        g_autoptr(GArray) map = disk_map(whole, 1, NULL, &error);
        MUST(map != NULL);
        Disk *to = disk_must_open(result, base, TRUE);
        cr_expect(ne(u64, difference(whole, to, NULL), DISK_SAME), "the test shows nothing");
        MUST(disk_copy(whole, map, to, &(struct disk_pace){.done = &done}, NULL, &error));
        MUST(disk_close(to, &error));
        guint64 there = 0;
        for (guint i = 0; i < map->len; i++)
                there += g_array_index(map, struct disk_range, i).kind == DISK_ABSENT
                                 ? 0
                                 : g_array_index(map, struct disk_range, i).length;
        cr_expect(eq(u64, (guint64)disk_pace_done(&done), there));

        g_autoptr(Disk) merged = disk_must_open(result, base, FALSE);
        cr_expect(eq(u64, difference(whole, merged, NULL), DISK_SAME));
        tool_run((const char *const[]){"qemu-img", "check", "-q", result, NULL});
        /* What was nowhere in the three is nowhere in the two. */
        g_autofree char *of_whole = map_text(whole, 2), *of_merged = map_text(merged, 1);
        g_autoptr(Disk) old = disk_open(below, 2, NULL, NULL, &error);
        MUST(old != NULL);
        cr_expect(ne(u64, difference(old, merged, NULL), DISK_SAME));
}

Test(disk_disk_copy, QEMU_finds_the_copy_identical_and_zeros_take_no_room)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *a = image_make(t, "a.qcow2", "64M", NULL);
        g_autofree char *b = image_make(t, "b.qcow2", "64M", NULL);
        g_autoptr(GError) error = NULL;

        image_io(a, "qcow2", COMMANDS("write -P 7 0 20M", "write -P 0 20M 20M", "write -P 8 63M 1M"));
        Disk *from = disk_must_open(a, NULL, FALSE), *to = disk_must_open(b, NULL, TRUE);
        g_autoptr(GArray) map = disk_map(from, DISK_ALL, NULL, &error);
        MUST(map != NULL);
        MUST(disk_copy(from, map, to, NULL, NULL, &error));
        g_autofree char *text = map_text(to, 1);
        cr_expect(eq(str, text, (char *)"D0+20480 Z20480+20480 A40960+23552 D64512+1024"));
        MUST(disk_close(from, &error));
        MUST(disk_close(to, &error));
        tool_run(
                (const char *const[]){"qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", a, b, NULL});
}

Test(disk_disk_copy, the_first_difference_is_found_wherever_it_is)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *a = image_make(t, "a.qcow2", "64M", NULL);
        g_autofree char *b = tempdir_path(t, "b.qcow2");
        g_autoptr(GError) error = NULL;
        static const guint64 at[] = {(64u << 20) - 1, (40u << 20) + 17, (2u << 20) - 1, 0};

        image_io(a, "qcow2", COMMANDS("write -P 7 0 20M"));
        tool_run((const char *const[]){"cp", a, b, NULL});
        g_autoptr(Disk) one = disk_must_open(a, NULL, FALSE);
        for (guint i = 0; i < G_N_ELEMENTS(at); i++) {
                g_autoptr(Disk) two = disk_must_open(b, NULL, TRUE);
                cr_expect(eq(u64, difference(one, two, NULL), i == 0 ? DISK_SAME : at[i - 1]));
                MUST(disk_write(two, at[i], "x", 1, NULL, &error));
                cr_expect(eq(u64, difference(one, two, NULL), at[i]));
                cr_expect(eq(u64, difference(two, one, NULL), at[i]));
                MUST(disk_close(g_steal_pointer(&two), &error));
        }
}

Test(disk_disk_copy, only_what_a_map_names_is_compared)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *a = image_make(t, "a.qcow2", "1M", NULL), *b = image_make(t, "b.qcow2", "2M", NULL);
        const struct disk_range ranges[] = {
                {0, 65536, DISK_DATA}, {65536, 65536, DISK_ABSENT}, {131072, 65536, DISK_ZERO}};
        g_autoptr(GArray) map = g_array_new(FALSE, FALSE, sizeof(struct disk_range));

        image_io(a, "qcow2", COMMANDS("write -P 1 64k 64k"));
        g_array_append_vals(map, ranges, 3);
        {
                g_autoptr(Disk) one = disk_must_open(a, NULL, FALSE), two = disk_must_open(b, NULL, FALSE);
                cr_expect(eq(u64, difference(one, two, map), DISK_SAME));
                cr_expect(eq(u64, difference(one, two, NULL), 65536));
        }
        image_io(a, "qcow2", COMMANDS("write -z 64k 64k", "write -P 1 191k 1k"));
        g_autoptr(Disk) one = disk_must_open(a, NULL, FALSE), two = disk_must_open(b, NULL, FALSE);
        cr_expect(eq(u64, difference(one, two, map), 191u << 10));
        /* Without that, the end of the smaller one would be the difference. */
        g_autoptr(Disk) three = disk_must_open(b, NULL, FALSE);
        cr_expect(eq(u64, difference(three, two, NULL), DISK_SAME));
}

Test(disk_disk_copy, disks_of_different_sizes_differ_where_the_smaller_one_ends)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *a = image_make(t, "a.qcow2", "1M", NULL), *b = image_make(t, "b.qcow2", "2M", NULL);
        g_autoptr(Disk) one = disk_must_open(a, NULL, FALSE), two = disk_must_open(b, NULL, FALSE);

        cr_expect(eq(u64, difference(one, two, NULL), 1u << 20));
}

Test(disk_disk_copy, a_map_that_does_not_fit_is_refused)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *a = image_make(t, "a.qcow2", "2M", NULL), *b = image_make(t, "b.qcow2", "1M", NULL);
        g_autoptr(Disk) from = disk_must_open(a, NULL, FALSE), to = disk_must_open(b, NULL, TRUE);
        g_autoptr(GArray) map = g_array_new(FALSE, FALSE, sizeof(struct disk_range));
        const struct disk_range r = {1 << 20, 65536, DISK_DATA};
        g_autoptr(GError) error = NULL;

        g_array_append_val(map, r);
        cr_expect(not(disk_copy(from, map, to, NULL, NULL, &error)));
        expect_error(error, MOULT_ERROR_REFUSED, b);
}

struct canceller {
        GCancellable *cancellable;
        gint64 done;
        GPid kill; /* instead of cancelling */
};

/* When something has been copied. */
static gpointer stop_it(gpointer data)
{
        struct canceller *c = data;

        while (disk_pace_done(&c->done) == 0)
                g_thread_yield();
        if (c->kill > 0)
                (void)kill(c->kill, SIGKILL);
        else
                g_cancellable_cancel(c->cancellable);
        return NULL;
}

/* A copy that would take a quarter of an hour. */
static void copy_and_stop(gboolean by_kill, GError **error)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *a = image_make(t, "a.qcow2", "64M", NULL),
                        *b = image_make(t, "b.qcow2", "64M", NULL);
        g_autoptr(GCancellable) cancellable = g_cancellable_new();
        struct canceller c = {.cancellable = cancellable};

        image_io(a, "qcow2", COMMANDS("write -P 1 0 64M"));
        g_autoptr(Disk) from = disk_must_open(a, NULL, FALSE), to = disk_must_open(b, NULL, TRUE);
        g_autoptr(GArray) map = disk_map(from, 1, NULL, error);
        const struct disk_pace pace = {.bytes_per_second = 64 << 10, .done = &c.done};
        c.kill = by_kill ? disk_process(to) : 0;
        GThread *thread = g_thread_new("stops", stop_it, &c);
        cr_expect(not(disk_copy(from, map, to, &pace, cancellable, error)));
        g_thread_join(thread);
        cr_expect(lt(i64, c.done, 8 << 20));
}

Test(disk_disk_copy, is_cancelled_in_the_middle)
{
        g_autoptr(GError) error = NULL;

        copy_and_stop(FALSE, &error);
        expect_error(error, MOULT_ERROR_CANCELLED, "copying");
}

Test(disk_disk_copy, a_qemu_nbd_that_is_killed_in_the_middle_is_an_error)
{
        g_autoptr(GError) error = NULL;

        copy_and_stop(TRUE, &error);
        expect_error(error, MOULT_ERROR_IO, "b.qcow2: qemu-nbd was killed by signal 9");
}
