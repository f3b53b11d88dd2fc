/* tests/unit/test_snapshot_layers_sweep.c - which layers nobody needs, and which restore points something
 * does. */
#include "host-service/snapshot/layers_sweep.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "host-service/catalogue/operations.h"
#include "host-service/catalogue/removals.h"
#include "host-service/catalogue/snapshots.h"
#include "host-service/snapshot/prune_needs.h"
#include "tests/support/host_world.h"

TestSuite(snapshot_layers_sweep, .timeout = 60);

#define A "01ARZ3NDEKTSV4RRFFQ69G5FA1"
#define B "01ARZ3NDEKTSV4RRFFQ69G5FA2"
#define D "01ARZ3NDEKTSV4RRFFQ69G5FA3"
#define E "01ARZ3NDEKTSV4RRFFQ69G5FA4"

static void add_layer(Catalogue *c, const char *id, const char *parent)
{
        LayerRecord r = {.id = (char *)id,
                         .vm = (char *)"web",
                         .parent = (char *)parent,
                         .file = (char *)"/d/f",
                         .format = (char *)"qcow2",
                         .sealed_us = 1};

        cr_assert(catalogue_layer_add(c, &r, NULL));
}

static void take(Catalogue *c, const char *id, const char *next_on)
{
        g_autoptr(SnapshotRecord) s = snapshot_record_new();
        struct snapshot_disk *d = snapshot_record_add_disk(s);

        s->id = g_strdup(id);
        s->vm = g_strdup("web");
        s->name = g_strdup(id);
        d->device = g_strdup("disk0");
        d->path = g_strdup("/d/w");
        d->layer = g_strdup_printf("w.moult-%s-0.layer", id);
        d->next = g_strdup("w.moult-next.layer");
        d->next_on = g_strdup(next_on);
        d->format = g_strdup("qcow2");
        cr_assert(catalogue_snapshot_add(c, s, NULL));
        s->state = SNAPSHOT_TAKEN;
        cr_assert(catalogue_snapshot_update(c, s, NULL));
}

/* The last characters of the ids. */
static char *unneeded(Catalogue *c)
{
        g_autoptr(GPtrArray) all = layers_sweep_unneeded(c, "web", NULL);
        GString *s = g_string_new(NULL);

        for (guint i = 0; i < all->len; i++)
                g_string_append_c(s, ((const LayerRecord *)all->pdata[i])->id[25]);
        return g_string_free(s, FALSE);
}

/* A, B on it, and after a rollback to A: D on A. */
static void branched(Catalogue *c)
{
        LayerRecord base = {.id = (char *)"base-1", .format = (char *)"qcow2", .sealed_us = 1};

        cr_assert(catalogue_layer_add(c, &base, NULL));
        add_layer(c, A "-0", "base-1");
        add_layer(c, B "-0", A "-0");
        take(c, A, NULL);
        take(c, B, A "-0"); /* "before": the disk stands on A now */
}

Test(snapshot_layers_sweep, a_layer_in_the_middle_stays_as_long_as_something_stands_on_it)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        branched(c);
        add_layer(c, D "-0", A "-0");
        take(c, D, NULL);
        g_autofree char *none = unneeded(c);
        cr_expect(eq(str, none, (char *)""));
        cr_assert(catalogue_snapshot_remove(c, A, NULL));
        g_autofree char *still = unneeded(c);
        cr_expect(eq(str, still, (char *)""), "two stand on it");
        cr_assert(catalogue_snapshot_remove(c, B, NULL));
        g_autofree char *branch = unneeded(c);
        cr_expect(eq(str, branch, (char *)"2"), "the branch that was left");
        g_autoptr(GPtrArray) removals = catalogue_removal_list(c, NULL);
        cr_assert(eq(u32, removals->len, 2));
        cr_assert(catalogue_removal_done(c, A, NULL) && catalogue_removal_done(c, B, NULL));
        cr_assert(catalogue_layer_forget(c, B "-0", NULL));
        cr_expect(not(catalogue_layer_forget(c, "base-1", NULL)));
        g_autofree char *end = unneeded(c);
        cr_expect(eq(str, end, (char *)""));
}

Test(snapshot_layers_sweep, the_newest_of_a_disk_what_it_was_rolled_back_to_and_what_a_job_is_about_is_needed)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        branched(c);
        g_autoptr(GPtrArray) two = catalogue_snapshot_list(c, "web", 10, NULL);
        g_autoptr(GHashTable) both = prune_needs(c, two, NULL);
        cr_expect(eq(str, g_hash_table_lookup(both, B), (char *)"needed: disk disk0 goes on from it"));
        cr_expect(eq(str, g_hash_table_lookup(both, A), (char *)"needed: disk disk0 stands on it"));
        add_layer(c, D "-0", A "-0");
        take(c, D, NULL);
        cr_assert(catalogue_operation_add(c, E, "snapshot-export", "{\"snapshot\": \"" B "\"}", NULL));
        g_autoptr(GPtrArray) three = catalogue_snapshot_list(c, "web", 10, NULL);
        g_autoptr(GHashTable) later = prune_needs(c, three, NULL);
        cr_expect(eq(ptr, g_hash_table_lookup(later, A), NULL));
        cr_expect(eq(str, g_hash_table_lookup(later, B),
                     (char *)"needed: job snapshot-export " E " is not over"));
}
