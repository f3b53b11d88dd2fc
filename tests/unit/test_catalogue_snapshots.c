/* tests/unit/test_catalogue_snapshots.c - snapshots are rows that end once. */
#include "host-service/catalogue/snapshots.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "common/error.h"
#include "host-service/catalogue/event_log.h"
#include "tests/support/host_world.h"

TestSuite(catalogue_snapshots, .timeout = 60);

#define FIRST  "01ARZ3NDEKTSV4RRFFQ69G5FA1"
#define SECOND "01ARZ3NDEKTSV4RRFFQ69G5FA2"

static SnapshotRecord *make(const char *id, const char *vm, const char *name)
{
        SnapshotRecord *r = snapshot_record_new();

        r->id = g_strdup(id);
        r->vm = g_strdup(vm);
        r->name = g_strdup(name);
        r->created_us = 5;
        for (guint i = 0; i < 2; i++) {
                struct snapshot_disk *d = snapshot_record_add_disk(r);

                d->device = g_strdup_printf("v%u", i);
                d->path = g_strdup("/d/web.qcow2");
                d->layer = g_strdup("l");
                d->next = g_strdup("n");
                d->format = g_strdup("qcow2");
                d->size_bytes = 7;
                d->is_first = i == 1;
        }
        return r;
}

Test(catalogue_snapshots, one_is_kept_with_its_disks)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(SnapshotRecord) r = make(FIRST, "a", "before");
        gint64 before = catalogue_event_last(c);

        cr_assert(catalogue_snapshot_add(c, r, NULL));
        r->state = SNAPSHOT_TAKEN;
        r->taken_us = 9;
        r->grade = GRADE_APPLICATION;
        r->frozen_us = 3;
        r->hooks = 2;
        cr_assert(catalogue_snapshot_update(c, r, NULL));
        g_autoptr(SnapshotRecord) kept = catalogue_snapshot_get(c, FIRST, NULL);
        g_autoptr(JsonNode) want = json_node_new(JSON_NODE_OBJECT), is = json_node_new(JSON_NODE_OBJECT);
        json_node_take_object(want, snapshot_record_to_json(r));
        json_node_take_object(is, snapshot_record_to_json(kept));
        cr_expect(json_node_equal(want, is));
        const struct snapshot_disk *second = kept->disks->pdata[1];
        cr_expect(second->is_first);
        g_autofree char *events = host_world_events(c, before);
        cr_expect(eq(str, events, "snapshot.making snapshot.taken"));
}

Test(catalogue_snapshots, a_final_state_is_never_left)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(SnapshotRecord) r = make(FIRST, "a", "x");
        g_autoptr(GError) error = NULL;

        cr_assert(catalogue_snapshot_add(c, r, NULL));
        r->state = SNAPSHOT_FAILED;
        cr_assert(catalogue_snapshot_update(c, r, NULL));
        r->state = SNAPSHOT_TAKEN;
        cr_expect(not(catalogue_snapshot_update(c, r, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE));
}

Test(catalogue_snapshots, a_name_is_a_vm_s_once_unless_that_one_failed)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(SnapshotRecord) r = make(FIRST, "a", "x");
        g_autoptr(SnapshotRecord) same = make(SECOND, "a", "x");
        g_autoptr(GError) error = NULL;

        cr_assert(catalogue_snapshot_add(c, r, NULL));
        cr_expect(not(catalogue_snapshot_add(c, same, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED));
        r->state = SNAPSHOT_FAILED;
        cr_assert(catalogue_snapshot_update(c, r, NULL));
        cr_expect(catalogue_snapshot_add(c, same, NULL));
        g_autoptr(GPtrArray) of_a = catalogue_snapshot_list(c, "a", 10, NULL);
        g_autoptr(GPtrArray) all = catalogue_snapshot_list(c, NULL, 10, NULL);
        g_autoptr(GPtrArray) of_b = catalogue_snapshot_list(c, "b", 10, NULL);
        cr_expect(eq(u32, of_a->len, 1));
        cr_expect(eq(u32, all->len, 1));
        cr_expect(eq(u32, of_b->len, 0));
        const SnapshotRecord *left = of_a->pdata[0];
        cr_expect(eq(str, left->id, SECOND));
}

static void take(Catalogue *c, const char *id, const char *device, const char *path, const char *next,
                 SnapshotState state)
{
        g_autoptr(SnapshotRecord) r = make(id, "a", id);

        g_ptr_array_set_size(r->disks, 1);
        struct snapshot_disk *d = r->disks->pdata[0];
        g_free(d->device);
        g_free(d->path);
        g_free(d->next);
        d->device = g_strdup(device);
        d->path = g_strdup(path);
        d->next = g_strdup(next);
        d->next_on = g_strdup("");
        cr_assert(catalogue_snapshot_add(c, r, NULL));
        r->state = state;
        cr_assert(state == SNAPSHOT_MAKING || catalogue_snapshot_update(c, r, NULL));
}

Test(catalogue_snapshots, a_vm_s_disks_are_what_the_newest_snapshot_of_each_has_left)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(GString) found = g_string_new(NULL);

        take(c, "01HF7YBKBWB2NZVZDMR1TRA8X1", "gone", "/d/moved", "old", SNAPSHOT_TAKEN);
        take(c, "01HF7YBKBWB2NZVZDMR1TRA8X2", "data", "/d/data", "d1", SNAPSHOT_TAKEN);
        take(c, "01HF7YBKBWB2NZVZDMR1TRA8X3", "disk0", "/d/old-place", "o", SNAPSHOT_TAKEN);
        take(c, "01HF7YBKBWB2NZVZDMR1TRA8X4", "disk0", "/d/web", "w1", SNAPSHOT_TAKEN);
        take(c, "01HF7YBKBWB2NZVZDMR1TRA8X5", "new", "/d/moved", "m1", SNAPSHOT_TAKEN);
        take(c, "01HF7YBKBWB2NZVZDMR1TRA8X6", "disk0", "/d/web", "w2", SNAPSHOT_FAILED);
        take(c, "01HF7YBKBWB2NZVZDMR1TRA8X7", "disk0", "/d/web", "w3", SNAPSHOT_MAKING);
        g_autoptr(GPtrArray) all = catalogue_snapshot_disks(c, "a", NULL);
        cr_assert(all != NULL);
        for (guint i = 0; i < all->len; i++) {
                const struct snapshot_disk *d = all->pdata[i];

                cr_expect(eq(u32, d->number, i));
                cr_expect(eq(str, d->next_on, ""));
                g_string_append_printf(found, "%s=%s:%s ", d->device, d->path, d->next);
        }
        cr_expect(eq(str, found->str, "new=/d/moved:m1 disk0=/d/web:w1 data=/d/data:d1 "));
        g_autoptr(GPtrArray) none = catalogue_snapshot_disks(c, "b", NULL);
        cr_expect(eq(u32, none->len, 0));
}

static void add_taken(Catalogue *c, const char *id, const char *name, gint64 taken_us)
{
        g_autoptr(SnapshotRecord) r = make(id, "a", name);

        cr_assert(catalogue_snapshot_add(c, r, NULL));
        r->state = taken_us > 0 ? SNAPSHOT_TAKEN : SNAPSHOT_FAILED;
        r->taken_us = taken_us;
        cr_assert(catalogue_snapshot_update(c, r, NULL));
}

Test(catalogue_snapshots, the_last_one_before_a_time)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(GError) none = NULL, early = NULL;

        cr_expect(eq(ptr, catalogue_snapshot_at(c, "a", 50, &none), NULL));
        cr_expect(eq(int, none->code, MOULT_ERROR_NOT_FOUND));
        add_taken(c, "01ARZ3NDEKTSV4RRFFQ69G5FA3", "failed", 0);
        add_taken(c, FIRST, "ten", 10);
        add_taken(c, SECOND, "twenty", 20);
        g_autoptr(SnapshotRecord) at = catalogue_snapshot_at(c, "a", 10, NULL);
        cr_expect(eq(str, at->name, "ten"));
        g_autoptr(SnapshotRecord) between = catalogue_snapshot_at(c, "a", 19, NULL);
        cr_expect(eq(str, between->name, "ten"));
        g_autoptr(SnapshotRecord) after = catalogue_snapshot_at(c, "a", 1000, NULL);
        cr_expect(eq(str, after->name, "twenty"));
        cr_expect(eq(ptr, catalogue_snapshot_at(c, "a", 9, &early), NULL));
        cr_expect(ne(ptr, strstr(early->message, "its first one is \"ten\""), NULL));
        cr_expect(eq(ptr, catalogue_snapshot_at(c, "b", 50, NULL), NULL));
}

Test(catalogue_snapshots, each_of_a_list_has_its_own_disks)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        add_taken(c, FIRST, "two-disks", 10);
        take(c, SECOND, "only", "/d/only", "n", SNAPSHOT_TAKEN);
        add_taken(c, "01ARZ3NDEKTSV4RRFFQ69G5FA3", "newest", 20);
        g_autoptr(GPtrArray) all = catalogue_snapshot_list(c, "a", 2, NULL);
        cr_assert(eq(u32, all->len, 2));
        const SnapshotRecord *newest = all->pdata[0], *second = all->pdata[1];
        cr_expect(eq(u32, newest->disks->len, 2));
        const struct snapshot_disk *last = newest->disks->pdata[1];
        cr_expect(eq(str, last->device, "v1"));
        cr_expect(eq(u32, last->number, 1));
        cr_assert(eq(u32, second->disks->len, 1));
        const struct snapshot_disk *only = second->disks->pdata[0];
        cr_expect(eq(str, only->device, "only"));
}
