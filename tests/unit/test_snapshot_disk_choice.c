/* tests/unit/test_snapshot_disk_choice.c - of which disks a snapshot is taken, and of which none can be. */
#include "host-service/snapshot/disk_choice.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"

TestSuite(disk_choice, .timeout = 10);

#define ID    "01HF7YBKBWB2NZVZDMR1TRA8XA"
#define FIRST "01HF7YBKBWB2NZVZDMR1TRA8XB"

static GPtrArray *none(void)
{
        return g_ptr_array_new_with_free_func((GDestroyNotify)vm_disk_free);
}

static struct vm_disk *add(GPtrArray *all, const char *device, const char *file)
{
        struct vm_disk *d = g_new0(struct vm_disk, 1);

        d->device = g_strdup(device);
        d->node = g_strdup("node");
        d->format = g_strdup("qcow2");
        d->file = g_strdup(file);
        d->size_bytes = 512;
        d->writable = TRUE;
        d->below = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(all, d);
        return d;
}

static SnapshotRecord *choose(const GPtrArray *all, const char *const *wanted, GError **error)
{
        g_autoptr(SnapshotRecord) r = snapshot_record_new();

        r->id = g_strdup(ID);
        return disk_choice_make(r, all, wanted, FIRST, DISK_SEALED, error) ? g_steal_pointer(&r) : NULL;
}

static void expect_refused(const GPtrArray *all, const char *const *wanted, MoultError code, const char *why)
{
        g_autoptr(GError) error = NULL;

        cr_assert(choose(all, wanted, &error) == NULL, "%s", why);
        cr_expect(g_error_matches(error, MOULT_ERROR, (gint)code), "%s", error->message);
        cr_expect(strstr(error->message, why) != NULL, "%s", error->message);
}

Test(disk_choice, all_that_can_be_written_to_are_chosen_and_named)
{
        g_autoptr(GPtrArray) all = none();
        const struct snapshot_disk *d;

        add(all, "a", "/d/web.qcow2");
        add(all, "cd", "/d/cd.iso")->removable = TRUE;
        add(all, "ro", "/d/ro.qcow2")->writable = FALSE;
        add(all, "b", "/e/data.moult-" FIRST "-3.layer");
        g_autoptr(SnapshotRecord) r = choose(all, NULL, NULL);
        cr_assert(r != NULL);
        cr_assert(eq(u32, r->disks->len, 2));
        d = r->disks->pdata[0];
        cr_expect(eq(str, d->path, "/d/web.qcow2"));
        cr_expect(eq(str, d->layer, "web.qcow2.moult-" FIRST "-0.layer"));
        cr_expect(eq(str, d->next, "web.qcow2.moult-" ID "-0.layer"));
        cr_expect(d->is_first);
        d = r->disks->pdata[1];
        cr_expect(eq(str, d->path, "/e/data"));
        cr_expect(eq(str, d->layer, "data.moult-" FIRST "-3.layer"));
        cr_expect(eq(str, d->next, "data.moult-" ID "-1.layer"));
        cr_expect(not(d->is_first));
}

Test(disk_choice, some_can_be_wanted)
{
        g_autoptr(GPtrArray) all = none();
        const struct snapshot_disk *d;

        add(all, "a", "/d/a");
        add(all, "b", "/d/b");
        g_autoptr(SnapshotRecord) r = choose(all, (const char *const[]){"b", NULL}, NULL);
        cr_assert(r != NULL);
        cr_assert(eq(u32, r->disks->len, 1));
        d = r->disks->pdata[0];
        cr_expect(eq(str, d->device, "b"));
        add(all, "top", "/d/web.moult-" FIRST "-0.layer");
        g_autoptr(SnapshotRecord) by_path = choose(all, (const char *const[]){"/d/a", "/d/web", NULL}, NULL);
        cr_assert(by_path != NULL);
        cr_assert(eq(u32, by_path->disks->len, 2));
        d = by_path->disks->pdata[1];
        cr_expect(eq(str, d->device, "top"));
        expect_refused(all, (const char *const[]){"c", NULL}, MOULT_ERROR_NOT_FOUND, "it has a, b, top");
}

Test(disk_choice, what_no_snapshot_can_be_taken_of_is_refused_with_a_reason)
{
        g_autoptr(GPtrArray) empty = none(), odd = none(), nowhere = none(), long_one = none(),
                             twice = none(), cd = none();
        struct vm_disk *d;

        expect_refused(empty, NULL, MOULT_ERROR_REFUSED, "nothing to take");
        d = add(odd, "a", "/d/a");
        g_free(d->format);
        d->format = g_strdup("vmdk");
        expect_refused(odd, NULL, MOULT_ERROR_REFUSED, "neither qcow2 nor raw");
        add(nowhere, "a", NULL);
        expect_refused(nowhere, NULL, MOULT_ERROR_REFUSED, "no plain file");
        d = add(long_one, "a", "/d/a");
        for (guint i = 0; i + 1 < CHAIN_FILES_MAX; i++)
                g_ptr_array_add(d->below, NULL);
        expect_refused(long_one, NULL, MOULT_ERROR_REFUSED, "more than 4 files");
        add(twice, "a", "/d/a");
        add(twice, "b", "/d/a");
        expect_refused(twice, NULL, MOULT_ERROR_REFUSED, "another disk's");
        add(cd, "c", "/d/c")->removable = TRUE;
        expect_refused(cd, (const char *const[]){"c", NULL}, MOULT_ERROR_REFUSED, "removable");
}

Test(disk_choice, a_chain_of_four_is_allowed)
{
        g_autoptr(GPtrArray) all = none();
        struct vm_disk *d = add(all, "a", "/d/a");

        for (guint i = 0; i + 2 < CHAIN_FILES_MAX; i++)
                g_ptr_array_add(d->below, NULL);
        g_autoptr(SnapshotRecord) r = choose(all, NULL, NULL);
        cr_expect(r != NULL);
}

Test(disk_choice, a_copy_has_the_new_name_and_makes_no_chain_longer)
{
        g_autoptr(GPtrArray) all = none();
        g_autoptr(SnapshotRecord) r = snapshot_record_new();
        struct vm_disk *top = add(all, "a", "/d/web.moult-" FIRST "-0.layer");
        const struct snapshot_disk *d;

        for (guint i = 0; i + 1 < CHAIN_FILES_MAX; i++)
                g_ptr_array_add(top->below, NULL);
        add(all, "b", "/d/data");
        r->id = g_strdup(ID);
        cr_assert(disk_choice_make(r, all, NULL, FIRST, DISK_COPIED, NULL));
        d = r->disks->pdata[0];
        cr_expect(eq(str, d->layer, "web.moult-" ID "-0.layer"));
        cr_expect(eq(str, d->next, "web.moult-" FIRST "-0.layer"));
        cr_expect(not(d->is_first));
        d = r->disks->pdata[1];
        cr_expect(eq(str, d->layer, "data.moult-" ID "-1.layer"));
        cr_expect(eq(str, d->next, "data.moult-" FIRST "-1.layer"));
        cr_expect(d->is_first);
}
