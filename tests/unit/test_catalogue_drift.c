/* tests/unit/test_catalogue_drift.c - how long the result of a check holds. */
#include "host-service/catalogue/drift.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "host-service/catalogue/counts.h"
#include "host-service/catalogue/event_log.h"
#include "host-service/catalogue/vms.h"
#include "tests/support/host_world.h"

TestSuite(catalogue_drift, .timeout = 60);

static struct drift_record get(Catalogue *c, gint64 *ret_changes)
{
        struct drift_record r;

        cr_assert(catalogue_drift_get(c, "a", &r, ret_changes, NULL));
        return r;
}

static gint64 changes(Catalogue *c)
{
        gint64 n;

        get(c, &n);
        return n;
}

static void push(Catalogue *c, char number, PushState end, gboolean dry_run)
{
        g_autofree char *operation = g_strdup_printf("01ARZ3NDEKTSV4RRFFQ69G5FA%c", number);
        PushRecord p = {.operation = operation,
                        .vm = (char *)"a",
                        .release_name = (char *)"app",
                        .release_version = (char *)"1",
                        .options.dry_run = dry_run,
                        .push_id = {(guint8)number}};
        g_autoptr(PushRecord) r = NULL;

        cr_assert(catalogue_operation_add(c, operation, "push", "{}", NULL));
        cr_assert(catalogue_push_add(c, &p, NULL));
        r = catalogue_push_get(c, operation, "a", NULL);
        r->state = end;
        cr_assert(catalogue_push_update(c, r, NULL));
}

Test(catalogue_drift, a_result_holds_until_a_push_ends_that_could_change_something)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        host_world_add_vm(c, "a");
        cr_expect(eq(int, get(c, NULL).state, DRIFT_UNCHECKED));
        cr_assert(catalogue_drift_set(c, "a", changes(c), 0, NULL));
        cr_expect(eq(int, get(c, NULL).state, DRIFT_IN_STEP));
        cr_expect(eq(i64, get(c, NULL).checked_us, w->wall_us));
        push(c, '1', PUSH_STATE_DONE, TRUE);
        push(c, '2', PUSH_STATE_CANCELLED, FALSE);
        push(c, '3', PUSH_STATE_STAGE, FALSE);
        cr_expect(eq(int, get(c, NULL).state, DRIFT_IN_STEP));
        push(c, '4', PUSH_STATE_FAILED, FALSE);
        cr_expect(eq(int, get(c, NULL).state, DRIFT_OUTDATED));
        cr_assert(catalogue_drift_set(c, "a", changes(c), 3, NULL));
        cr_expect(eq(int, get(c, NULL).state, DRIFT_DRIFTS));
        cr_expect(eq(i64, get(c, NULL).files, 3));
}

Test(catalogue_drift, a_push_that_ends_while_files_are_read_makes_the_result_outdated)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        host_world_add_vm(c, "a");
        gint64 before = changes(c);
        push(c, '1', PUSH_STATE_DONE, FALSE);
        cr_assert(catalogue_drift_set(c, "a", before, 0, NULL));
        cr_expect(eq(int, get(c, NULL).state, DRIFT_OUTDATED));
        cr_assert(catalogue_drift_set(c, "a", changes(c), 2, NULL));
        cr_assert(catalogue_drift_set(c, "a", before, 0, NULL), "a slower one that began earlier");
        cr_expect(eq(int, get(c, NULL).state, DRIFT_DRIFTS));
}

Test(catalogue_drift, another_release_in_the_guest_makes_the_result_outdated)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        host_world_add_vm(c, "a");
        cr_assert(catalogue_drift_set(c, "a", changes(c), 0, NULL));
        cr_assert(catalogue_vm_set_release(c, "a", "app 1", NULL));
        cr_expect(eq(int, get(c, NULL).state, DRIFT_OUTDATED));
        cr_assert(catalogue_drift_set(c, "a", changes(c), 0, NULL));
        cr_expect(eq(int, get(c, NULL).state, DRIFT_IN_STEP));
        cr_assert(catalogue_vm_set_release(c, "a", NULL, NULL));
        cr_expect(eq(int, get(c, NULL).state, DRIFT_OUTDATED));
}

Test(catalogue_drift, vms_are_counted_by_what_was_found_and_told_when_it_is_news)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        struct catalogue_counts n;
        gint64 last;

        host_world_add_vm(c, "a");
        host_world_add_vm(c, "b");
        host_world_add_vm(c, "c");
        last = catalogue_event_last(c);
        cr_assert(catalogue_drift_set(c, "a", 0, 1, NULL));
        cr_assert(catalogue_drift_set(c, "a", 0, 1, NULL));
        cr_assert(catalogue_drift_set(c, "b", 0, 0, NULL));
        g_autofree char *events = host_world_events(c, last);
        cr_expect(eq(str, events, "vm.drift vm.drift"));
        cr_assert(catalogue_count(c, &n, NULL));
        cr_expect(eq(i64, n.drift[DRIFT_DRIFTS], 1));
        cr_expect(eq(i64, n.drift[DRIFT_IN_STEP], 1));
        cr_expect(eq(i64, n.drift[DRIFT_UNCHECKED], 1));
        cr_assert(catalogue_vm_remove(c, "a", NULL));
        host_world_add_vm(c, "a");
        cr_expect(eq(int, get(c, NULL).state, DRIFT_UNCHECKED));
}

Test(catalogue_drift, a_vm_that_is_not_known_is_refused)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(GError) error = NULL;

        cr_expect(not(catalogue_drift_set(c, "nobody", 0, 0, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND));
}
