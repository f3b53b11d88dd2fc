/* tests/unit/test_catalogue_merges.c - rows of merges, and who still needs the file of the lower layer. */
#include "host-service/catalogue/merges.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "host-service/catalogue/layers.h"
#include "host-service/catalogue/snapshots.h"
#include "tests/support/host_world.h"

TestSuite(catalogue_merges, .timeout = 60);

static const guint8 digest[DIGEST_SIZE] = {1};

static void add_layer(Catalogue *c, const char *id, const char *on, const char *file)
{
        LayerRecord r = {.id = (char *)id,
                         .vm = (char *)"web",
                         .parent = (char *)on,
                         .file = (char *)file,
                         .file_on = (char *)on,
                         .format = (char *)"qcow2",
                         .size_bytes = 7,
                         .sealed_us = 1};

        cr_assert(catalogue_layer_add(c, &r, NULL));
}

static MergeRecord two(Catalogue *c)
{
        add_layer(c, "A-0", "base-1", "/d/a");
        add_layer(c, "B-0", "A-0", "/d/b");
        return (MergeRecord){.id = (char *)"M-0",
                             .vm = (char *)"web",
                             .device = (char *)"disk0",
                             .path = (char *)"/d/w",
                             .top = (char *)"/d/t",
                             .upper = (char *)"B-0",
                             .upper_file = (char *)"/d/b",
                             .lower = (char *)"A-0",
                             .lower_file = (char *)"/d/a",
                             .file = (char *)"/d/m",
                             .created_us = 5};
}

static char *file_of(Catalogue *c, const char *id)
{
        g_autoptr(LayerRecord) r = catalogue_layer_get(c, id, NULL);

        return g_strdup_printf("%s on %s", r->file ? r->file : "-", r->file_on ? r->file_on : "-");
}

static SnapshotRecord *make(Catalogue *c, const char *id, const char *layer, const char *next_on)
{
        SnapshotRecord *s = snapshot_record_new();
        struct snapshot_disk *d = snapshot_record_add_disk(s);

        s->id = g_strdup(id);
        s->vm = g_strdup("web");
        s->name = g_strdup(id);
        d->device = g_strdup("disk0");
        d->path = g_strdup("/d/w");
        d->layer = g_strdup_printf("w.moult-%s.layer", layer);
        d->next = g_strdup_printf("w.moult-%s-0.layer", id);
        d->next_on = g_strdup(next_on);
        d->format = g_strdup("qcow2");
        cr_assert(catalogue_snapshot_add(c, s, NULL));
        return s;
}

static void take(Catalogue *c, const char *id, const char *layer, const char *next_on)
{
        g_autoptr(SnapshotRecord) s = make(c, id, layer, next_on);

        s->state = SNAPSHOT_TAKEN;
        cr_assert(catalogue_snapshot_update(c, s, NULL));
}

Test(catalogue_merges, a_merge_goes_from_plan_to_record_and_is_forgotten)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        MergeRecord m = two(c);

        cr_assert(catalogue_merge_add(c, &m, NULL));
        cr_assert(catalogue_merge_set_state(c, "M-0", MERGE_COMPARED, NULL));
        cr_expect(not(catalogue_merge_set_state(c, "N-0", MERGE_COMPARED, NULL)));
        g_autoptr(GPtrArray) of_web = catalogue_merge_list(c, "web", NULL);
        g_autoptr(GPtrArray) of_other = catalogue_merge_list(c, "other", NULL);
        cr_assert(eq(u32, of_web->len, 1));
        cr_expect(eq(u32, of_other->len, 0));
        const MergeRecord *r = of_web->pdata[0];
        cr_expect(eq(int, r->state, MERGE_COMPARED));
        cr_expect(eq(str, r->lower_file, (char *)"/d/a"));
        cr_expect(eq(ptr, r->below, NULL));
        cr_assert(catalogue_merge_record(c, r, NULL, NULL));
        g_autofree char *upper = file_of(c, "B-0"), *lower = file_of(c, "A-0");
        cr_expect(eq(str, upper, (char *)"/d/m on base-1"));
        cr_expect(eq(str, lower, (char *)"/d/a on base-1"));
        g_autoptr(GPtrArray) recorded = catalogue_merge_list(c, NULL, NULL);
        cr_expect(eq(int, ((const MergeRecord *)recorded->pdata[0])->state, MERGE_RECORDED));
        cr_assert(catalogue_merge_remove(c, "M-0", NULL));
        g_autoptr(GPtrArray) none = catalogue_merge_list(c, NULL, NULL);
        cr_expect(eq(u32, none->len, 0));
}

Test(catalogue_merges, the_lower_file_is_needed_until_both_layers_are_in_a_store)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        MergeRecord m = two(c);

        cr_assert(catalogue_merge_add(c, &m, NULL) && catalogue_merge_record(c, &m, NULL, NULL));
        cr_expect(not(catalogue_merge_needs_lower(c, &m)), "no restore point is of it");
        g_autoptr(SnapshotRecord) made = make(c, "S1", "A-0", NULL);
        cr_expect(catalogue_merge_needs_lower(c, &m));
        cr_assert(catalogue_layer_set_uploaded(c, "A-0", 9, digest, 1, NULL));
        cr_expect(catalogue_merge_needs_lower(c, &m), "the upper one is read against it");
        cr_assert(catalogue_layer_fold(c, "B-0", "C-0", NULL));
        cr_expect(not(catalogue_merge_needs_lower(c, &m)));
        add_layer(c, "D-0", "A-0", "/d/d");
        cr_expect(catalogue_merge_needs_lower(c, &m), "another file stands on it");
        cr_assert(catalogue_layer_set_file(c, "D-0", NULL, NULL, "qcow2", NULL));
        cr_expect(not(catalogue_merge_needs_lower(c, &m)));
        cr_assert(catalogue_merge_drop_lower(c, &m, NULL));
        g_autofree char *lower = file_of(c, "A-0");
        cr_expect(eq(str, lower, (char *)"- on -"));
}

Test(catalogue_merges, a_layer_that_has_another_file_by_now_keeps_it)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        MergeRecord m = two(c);

        cr_assert(catalogue_layer_set_file(c, "A-0", "/d/restored", NULL, "qcow2", NULL));
        cr_assert(catalogue_merge_drop_lower(c, &m, NULL));
        g_autofree char *lower = file_of(c, "A-0");
        cr_expect(eq(str, lower, (char *)"/d/restored on -"));
}

Test(catalogue_merges, a_branch_stands_on_the_upper_one_and_then_the_merged_file_is_a_layer_of_its_own)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        MergeRecord m = two(c);

        add_layer(c, "C-0", "A-0", "/d/c");
        cr_expect(not(catalogue_merge_has_branch(c, "B-0")), "it stands on the lower one");
        cr_assert(catalogue_layer_set_file(c, "C-0", NULL, "B-0", "qcow2", NULL));
        cr_expect(not(catalogue_merge_has_branch(c, "B-0")), "it has no file");
        cr_assert(catalogue_layer_set_file(c, "C-0", "/d/c", "B-0", "qcow2", NULL));
        cr_expect(catalogue_merge_has_branch(c, "B-0"));
        cr_assert(catalogue_merge_add(c, &m, NULL) && catalogue_merge_record(c, &m, NULL, NULL));
        g_autofree char *upper = file_of(c, "B-0"), *copy = file_of(c, "M-0");
        cr_expect(eq(str, upper, (char *)"/d/b on A-0"));
        cr_expect(eq(str, copy, (char *)"/d/m on base-1"));
        cr_expect(catalogue_merge_needs_upper(c, &m));
        cr_expect(catalogue_merge_needs_lower(c, &m));
}

Test(catalogue_merges,
     the_lower_file_is_needed_by_a_disk_that_was_rolled_back_to_it_and_for_what_has_no_manifest_yet)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        MergeRecord m = two(c);

        cr_assert(catalogue_merge_add(c, &m, NULL) && catalogue_merge_record(c, &m, NULL, NULL));
        take(c, "S1", "A-0", NULL);
        cr_assert(catalogue_layer_set_uploaded(c, "A-0", 9, digest, 1, NULL));
        cr_assert(catalogue_layer_set_uploaded(c, "B-0", 9, digest, 1, NULL));
        cr_expect(catalogue_merge_needs_lower(c, &m), "the store does not know the restore point");
        cr_assert(catalogue_snapshot_set_uploaded(c, "S1", 9, NULL));
        cr_expect(not(catalogue_merge_needs_lower(c, &m)));
        take(c, "S2", "T-0", "A-0");
        cr_assert(catalogue_snapshot_set_uploaded(c, "S2", 9, NULL));
        cr_expect(catalogue_merge_needs_lower(c, &m), "the disk stands on it now");
        take(c, "S3", "U-0", NULL);
        cr_expect(not(catalogue_merge_needs_lower(c, &m)), "and does not any more");
}

Test(catalogue_merges, a_new_top_is_in_the_row_of_the_newest_snapshot)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        MergeRecord m = two(c);
        struct snapshot_top top;

        m.path = (char *)"/d/w";
        take(c, "S1", "A-0", NULL);
        take(c, "S2", "B-0", NULL);
        cr_assert(catalogue_merge_add(c, &m, NULL));
        cr_assert(catalogue_merge_set_state(c, "M-0", MERGE_STOPPED, NULL));
        cr_assert(catalogue_merge_record(c, &m, "w.moult-N-0.layer", NULL));
        cr_assert(catalogue_snapshot_top(c, "web", "/d/w", &top, NULL));
        cr_expect(eq(str, top.name, (char *)"w.moult-N-0.layer"));
        snapshot_top_clear(&top);
        g_autoptr(SnapshotRecord) first = catalogue_snapshot_get(c, "S1", NULL);
        cr_expect(eq(str, ((const struct snapshot_disk *)first->disks->pdata[0])->next,
                     (char *)"w.moult-S1-0.layer"));
        cr_expect(catalogue_snapshot_made(c, "w.moult-N-0.layer"));
}
