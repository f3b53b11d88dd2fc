/* tests/unit/test_catalogue_operations.c - ids that sort, ends that are final. */
#include "host-service/catalogue/operations.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "tests/support/host_world.h"

TestSuite(catalogue_operations, .timeout = 60);

Test(catalogue_operations, ids_ascend_also_within_a_millisecond_and_when_the_clock_goes_back)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autofree char *last = g_strdup("");

        for (int i = 0; i < 2000; i++) {
                char *id = operation_id_new(c);

                cr_assert(operation_id_is_valid(id), "%s", id);
                cr_assert(lt(str, last, id));
                g_free(last);
                last = id;
                w->wall_us += (i % 7 == 0) ? 1500 : 0;
                w->wall_us -= (i % 100 == 0) ? 50000 : 0;
        }
}

Test(catalogue_operations, ids_are_ulids)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        w->wall_us = G_GINT64_CONSTANT(1469918176385) * 1000;
        g_autofree char *id = operation_id_new(c);
        cr_expect(eq(int, strncmp(id, "01ARYZ6S41", 10), 0), "%s", id); /* the specification's example */
        cr_expect(not(operation_id_is_valid("")));
        cr_expect(not(operation_id_is_valid("01ARYZ6S410000000000000000O")));
        cr_expect(not(operation_id_is_valid("01ARYZ6S41000000000000000U")));
        cr_expect(not(operation_id_is_valid("81ARYZ6S410000000000000000")));
}

Test(catalogue_operations, a_final_state_is_never_left)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autofree char *id = operation_id_new(c);
        g_autoptr(GError) why = g_error_new(MOULT_ERROR, MOULT_ERROR_TIMEOUT, "too late"), error = NULL;

        cr_assert(catalogue_operation_add(c, id, "push", "{\"a\":1}", NULL));
        cr_assert(catalogue_operation_set_state(c, id, OPERATION_RUNNING, NULL, NULL, NULL));
        cr_assert(catalogue_operation_set_state(c, id, OPERATION_FAILED, NULL, why, NULL));
        cr_expect(not(catalogue_operation_set_state(c, id, OPERATION_SUCCEEDED, NULL, NULL, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE));
        cr_expect(not(catalogue_operation_request_cancel(c, id, NULL)));
        cr_expect(not(catalogue_operation_progress(c, id, 1, 2, NULL)));
        g_autoptr(OperationRecord) r = catalogue_operation_get(c, id, NULL);
        cr_expect(eq(int, (int)r->state, (int)OPERATION_FAILED));
        cr_expect(eq(int, (int)r->error, (int)MOULT_ERROR_TIMEOUT));
        cr_expect(eq(str, r->text, "too late"));
        g_autofree char *events = host_world_events(c, 0);
        cr_expect(eq(str, events, "operation.queued operation.running operation.failed"));
}

Test(catalogue_operations, the_unfinished_ones_are_found_oldest_first)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        char *ids[4];

        for (int i = 0; i < 4; i++) {
                ids[i] = operation_id_new(c);
                cr_assert(catalogue_operation_add(c, ids[i], i < 2 ? "push" : "rollback", "{}", NULL));
        }
        cr_assert(catalogue_operation_set_state(c, ids[1], OPERATION_RUNNING, NULL, NULL, NULL));
        cr_assert(catalogue_operation_set_state(c, ids[2], OPERATION_PARTIAL, NULL, NULL, NULL));
        g_autoptr(GPtrArray) open = catalogue_operation_unfinished(c, NULL);
        cr_assert(eq(u32, open->len, 3));
        cr_expect(eq(str, ((OperationRecord *)open->pdata[0])->id, ids[0]));
        cr_expect(eq(str, ((OperationRecord *)open->pdata[2])->id, ids[3]));
        struct operation_filter f = {.state = -1, .kind = "rollback", .before = ids[3]};
        g_autoptr(GPtrArray) some = catalogue_operation_list(c, &f, NULL);
        cr_assert(eq(u32, some->len, 1));
        cr_expect(eq(str, ((OperationRecord *)some->pdata[0])->id, ids[2]));
        f = (struct operation_filter){.state = OPERATION_QUEUED, .limit = 1};
        g_autoptr(GPtrArray) one = catalogue_operation_list(c, &f, NULL);
        cr_assert(eq(u32, one->len, 1));
        cr_expect(eq(str, ((OperationRecord *)one->pdata[0])->id, ids[3]));
        for (int i = 0; i < 4; i++)
                g_free(ids[i]);
}

Test(catalogue_operations, every_state_has_a_name_that_is_read_back)
{
        for (int i = 0; i < OPERATION_STATE_MAX; i++) {
                OperationState s;

                cr_expect(operation_state_parse(operation_state_name((OperationState)i), &s));
                cr_expect(eq(int, (int)s, i));
        }
        OperationState untouched = OPERATION_PARTIAL;
        cr_expect(not(operation_state_parse("sleeping", &untouched)));
        cr_expect(eq(int, (int)untouched, (int)OPERATION_PARTIAL));
}
