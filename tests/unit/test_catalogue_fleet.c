/* tests/unit/test_catalogue_fleet.c - each VM with its last push, and whether its report still holds. */
#include "host-service/catalogue/fleet.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "host-service/catalogue/operations.h"
#include "tests/support/host_world.h"

TestSuite(catalogue_fleet, .timeout = 60);

static void add_push(HostWorld *w, Catalogue *c, const char *operation, PushState end, gboolean dry_run)
{
        PushRecord p = {.operation = (char *)operation,
                        .vm = (char *)"a",
                        .release_name = (char *)"app",
                        .release_version = (char *)"1",
                        .options.dry_run = dry_run,
                        .push_id = {(guint8)operation[25]}};
        g_autoptr(PushRecord) r = NULL;

        cr_assert(catalogue_operation_add(c, operation, "push", "{}", NULL));
        cr_assert(catalogue_push_add(c, &p, NULL));
        r = catalogue_push_get(c, operation, "a", NULL);
        r->state = end;
        r->stale = g_strdup("{\"known\":true,\"processes_total\":2}");
        w->wall_us += G_USEC_PER_SEC;
        cr_assert(catalogue_push_update(c, r, NULL));
}

static FleetRow *only(GPtrArray *rows)
{
        cr_assert(ne(ptr, rows, NULL));
        cr_assert(eq(u32, rows->len, 1));
        return rows->pdata[0];
}

Test(catalogue_fleet, the_last_push_is_one_that_could_change_something)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        host_world_add_vm(c, "a");
        g_autoptr(GPtrArray) none = catalogue_fleet(c, NULL, NULL);
        cr_expect(eq(ptr, only(none)->last, NULL));
        cr_expect(not(only(none)->stale_counts));
        add_push(w, c, "01ARZ3NDEKTSV4RRFFQ69G5FA1", PUSH_STATE_FAILED, FALSE);
        add_push(w, c, "01ARZ3NDEKTSV4RRFFQ69G5FA2", PUSH_STATE_DONE, TRUE);
        add_push(w, c, "01ARZ3NDEKTSV4RRFFQ69G5FA3", PUSH_STATE_CANCELLED, FALSE);
        add_push(w, c, "01ARZ3NDEKTSV4RRFFQ69G5FA4", PUSH_STATE_STAGE, FALSE);
        g_autoptr(GPtrArray) rows = catalogue_fleet(c, "{}", NULL);
        cr_expect(eq(int, only(rows)->last->state, PUSH_STATE_FAILED));
        cr_expect(eq(u32, only(rows)->pending, 1));
        g_autoptr(GPtrArray) others = catalogue_fleet(c, "{\"role\":\"web\"}", NULL);
        cr_expect(eq(u32, others->len, 0));
}

Test(catalogue_fleet, what_was_said_of_processes_holds_until_the_next_boot)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        host_world_add_vm(c, "a");
        cr_assert(catalogue_vm_seen(c, "a", "boot-1", "a", NULL));
        add_push(w, c, "01ARZ3NDEKTSV4RRFFQ69G5FA1", PUSH_STATE_DONE, FALSE);
        w->wall_us += G_USEC_PER_SEC;
        cr_assert(catalogue_vm_seen(c, "a", "boot-1", "renamed", NULL));
        g_autoptr(GPtrArray) before = catalogue_fleet(c, NULL, NULL);
        cr_expect(only(before)->stale_counts);
        cr_assert(catalogue_vm_seen(c, "a", "boot-2", "renamed", NULL));
        g_autoptr(GPtrArray) after = catalogue_fleet(c, NULL, NULL);
        cr_expect(not(only(after)->stale_counts));
}
