/* tests/unit/test_catalogue_pushes.c - a push's state machine in the catalogue, its events, its plan. */
#include "host-service/catalogue/pushes.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "host-service/catalogue/event_log.h"
#include "host-service/catalogue/json.h"
#include "host-service/catalogue/rollouts.h"
#include "host-service/jobs/push_operation.h"
#include "proto/message.h"
#include "tests/support/host_world.h"

TestSuite(catalogue_pushes, .timeout = 60);

static char *add_push(HostWorld *w, Catalogue *c, Jobs *j, const struct push_options *options)
{
        const char *const vms[] = {"a", NULL}, *const paths[] = {NULL};
        g_autoptr(GError) error = NULL;

        host_world_add_vm(c, "a");
        host_world_add_release(c, "app", "1", 7, 1, paths);
        g_autoptr(ReleaseRecord) r = catalogue_release_get(c, "app", "1", NULL);
        char *op = push_operation_add(&w->env, c, j, r, vms, options, &error);
        cr_assert(ne(ptr, op, NULL), "%s", error ? error->message : "");
        return op;
}

Test(catalogue_pushes, options_come_back_as_they_were)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(Jobs) j = jobs_new(&w->env, c);
        char *selection[] = {"etc/x", "usr/bin/y", NULL};
        const struct push_options o = {.dry_run = TRUE,
                                       .allow_drift = TRUE,
                                       .strict_window = TRUE,
                                       .transport = PUSH_TRANSPORT_TLS,
                                       .sync_mode = MOULT__SYNC_MODE__SYNC_GENTLE,
                                       .confirm_timeout_ms = 1234,
                                       .workers = 3,
                                       .selection = selection};
        g_autofree char *op = add_push(w, c, j, &o);
        g_autoptr(PushRecord) r = catalogue_push_get(c, op, "a", NULL);

        cr_expect(r->options.dry_run && r->options.allow_drift && r->options.strict_window &&
                  !r->options.rollback);
        cr_expect(eq(int, (int)r->options.transport, (int)PUSH_TRANSPORT_TLS));
        cr_expect(eq(int, (int)r->options.sync_mode, (int)MOULT__SYNC_MODE__SYNC_GENTLE));
        cr_expect(eq(u32, r->options.confirm_timeout_ms, 1234));
        cr_expect(eq(u32, r->options.workers, 3));
        cr_assert(ne(ptr, r->options.selection, NULL));
        cr_expect(eq(str, r->options.selection[1], "usr/bin/y"));
        cr_expect(eq(ptr, r->options.selection[2], NULL));
        cr_expect(eq(u8, r->digest[31], 7));
        g_autoptr(PushRecord) by_id = catalogue_push_by_id(c, r->push_id, NULL);
        cr_expect(eq(str, by_id->operation, op));
}

Test(catalogue_pushes, states_become_events_and_a_final_one_is_never_left)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(Jobs) j = jobs_new(&w->env, c);
        const struct push_options o = {0};
        g_autofree char *op = add_push(w, c, j, &o);
        gint64 before = catalogue_event_last(c);
        g_autoptr(PushRecord) r = catalogue_push_get(c, op, "a", NULL);
        g_autoptr(GError) error = NULL;

        r->state = PUSH_STATE_STAGE;
        cr_assert(catalogue_push_update(c, r, NULL));
        w->wall_us += 2 * G_USEC_PER_SEC;
        r->bytes_total = 4000;
        r->bytes_done = 1000;
        cr_assert(catalogue_push_update(c, r, NULL));
        g_autoptr(JsonObject) json = push_record_to_json(r);
        JsonObject *p = json_object_get_object_member(json, "progress");
        cr_expect(eq(dbl, json_object_get_double_member(p, "percent"), 25.0));
        cr_expect(eq(i64, json_object_get_int_member(p, "rate_bytes_per_s"), 500));
        cr_expect(eq(i64, json_object_get_int_member(p, "eta_s"), 6));
        r->plug = g_strdup("moult-pack-1");
        r->state = PUSH_STATE_UNPLUG;
        r->outcome = PUSH_STATE_REFUSED;
        cr_assert(catalogue_push_update(c, r, NULL));
        cr_expect(catalogue_push_uses_digest(c, r->digest));
        r->state = PUSH_STATE_REFUSED;
        r->error = MOULT_ERROR_DRIFT;
        r->text = g_strdup("no");
        cr_assert(catalogue_push_update(c, r, NULL));
        cr_expect(not(catalogue_push_uses_digest(c, r->digest)));
        r->state = PUSH_STATE_DONE;
        cr_expect(not(catalogue_push_update(c, r, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE));
        g_autofree char *events = host_world_events(c, before);
        cr_expect(eq(str, events, "push.stage push.progress push.unplug push.refused"));
        g_autoptr(PushRecord) last = catalogue_push_get(c, op, "a", NULL);
        cr_expect(eq(str, last->plug, "moult-pack-1"));
        cr_expect(eq(int, (int)last->error, (int)MOULT_ERROR_DRIFT));
        cr_expect(eq(int, (int)last->outcome, (int)PUSH_STATE_REFUSED));
}

Test(catalogue_pushes, what_became_of_a_push_that_is_done_is_a_note_and_no_error)
{
        PushRecord r = {.state = PUSH_STATE_DONE, .outcome = PUSH_STATE_DONE, .text = (char *)"gone since"};
        g_autoptr(JsonObject) done = NULL, refused = NULL;

        r.operation = r.vm = (char *)"x";
        done = push_record_to_json(&r);
        cr_expect(eq(str, (char *)json_object_get_string_member(done, "note"), "gone since"));
        cr_expect(json_object_get_null_member(done, "error"));
        r.state = r.outcome = PUSH_STATE_REFUSED;
        refused = push_record_to_json(&r);
        cr_expect(json_object_get_null_member(refused, "note"));
        cr_expect(not(json_object_get_null_member(refused, "error")));
}

/* A page with @n items whose paths are numbers from @first on. */
static void put_page(Catalogue *c, const char *op, guint32 first, guint32 total, guint n, gboolean expected)
{
        Moult__PlanPage page = MOULT__PLAN_PAGE__INIT;
        g_autofree Moult__PlanItem *items = g_new0(Moult__PlanItem, n);
        g_autofree Moult__PlanItem **pointers = g_new0(Moult__PlanItem *, n);
        g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);

        for (guint i = 0; i < n; i++) {
                moult__plan_item__init(&items[i]);
                g_ptr_array_add(texts, g_strdup_printf("p%u\xff", first + i));
                items[i].path = message_bytes(texts->pdata[i]);
                items[i].action = i == 0 ? MOULT__PLAN_ACTION__PLAN_BLOCKED : (Moult__PlanAction)99;
                items[i].size = UINT64_MAX;
                pointers[i] = &items[i];
        }
        page.first = first;
        page.total = total;
        page.n_items = n;
        page.items = pointers;
        cr_expect(eq(int, catalogue_plan_put(c, op, "a", &page, NULL), expected));
}

static gboolean changes_tally(Catalogue *c, PushRecord *r)
{
        guint64 before = catalogue_rollout_tally(c);

        cr_assert(catalogue_push_update(c, r, NULL));
        return catalogue_rollout_tally(c) != before;
}

/* Whoever counts a thousand pushes does it when the result may be another, and not at each step of each. */
Test(catalogue_pushes, what_rollouts_count_changes_the_tally_and_a_step_does_not)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(Jobs) j = jobs_new(&w->env, c);
        const struct push_options o = {0};
        guint64 before = catalogue_rollout_tally(c);
        g_autofree char *op = add_push(w, c, j, &o);
        g_autoptr(PushRecord) r = catalogue_push_get(c, op, "a", NULL);

        cr_expect(ne(u64, catalogue_rollout_tally(c), before), "there is one more");
        r->state = PUSH_STATE_CONNECT;
        cr_expect(not(changes_tally(c, r)));
        r->begun = TRUE;
        cr_expect(not(changes_tally(c, r)), "it runs, as before; what it fails as is told when it fails");
        r->state = PUSH_STATE_STAGE;
        cr_expect(not(changes_tally(c, r)));
        r->bytes_done = 1000;
        cr_expect(not(changes_tally(c, r)));
        r->outcome = PUSH_STATE_FAILED;
        cr_expect(changes_tally(c, r), "it is decided, although the guest has still to go back");
        r->state = PUSH_STATE_UNPLUG;
        cr_expect(not(changes_tally(c, r)));
        r->state = PUSH_STATE_FAILED;
        cr_expect(changes_tally(c, r));
}

Test(catalogue_pushes, a_plan_is_kept_page_by_page_and_replaced_from_its_first)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(Jobs) j = jobs_new(&w->env, c);
        const struct push_options o = {0};
        g_autofree char *op = add_push(w, c, j, &o);
        guint total = 0;

        put_page(c, op, 0, 5, 3, TRUE);
        put_page(c, op, 3, 5, 2, TRUE);
        put_page(c, op, 3, 5, 2, TRUE); /* the same again: no harm */
        g_autoptr(GPtrArray) items = catalogue_plan_list(c, op, "a", 2, 2, &total, NULL);
        cr_assert(eq(u32, items->len, 2));
        cr_expect(eq(u32, total, 5));
        const PlanItem *i = items->pdata[1];
        cr_expect(eq(u32, i->index, 3));
        cr_expect(g_utf8_validate(i->path, -1, NULL));
        cr_expect(eq(str, (char *)plan_action_name(i->action), "blocked"));
        cr_expect(eq(str, (char *)plan_action_name(((const PlanItem *)items->pdata[0])->action), "unknown"));
        put_page(c, op, 0, 1, 1, TRUE);
        g_autoptr(GPtrArray) fewer = catalogue_plan_list(c, op, "a", 0, 10, &total, NULL);
        cr_expect(eq(u32, fewer->len, 1));
        cr_expect(eq(ptr, catalogue_plan_list(c, op, "b", 0, 10, &total, NULL), NULL));
        put_page(c, "01ARYZ6S410000000000000000", 0, 1, 1, FALSE);
}

Test(catalogue_pushes, a_guest_cannot_make_us_keep_more_of_a_plan_than_the_limit)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(Jobs) j = jobs_new(&w->env, c);
        const struct push_options o = {0};
        g_autofree char *op = add_push(w, c, j, &o);
        guint total = 0;

        put_page(c, op, 199999, UINT32_MAX, 3, TRUE);
        put_page(c, op, UINT32_MAX, UINT32_MAX, 3, TRUE);
        g_autoptr(GPtrArray) items = catalogue_plan_list(c, op, "a", 0, 10, &total, NULL);
        cr_expect(eq(u32, items->len, 1));
        cr_expect(eq(u32, total, UINT32_MAX));
}

Test(catalogue_pushes, what_is_refused_leaves_no_operation)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(Jobs) j = jobs_new(&w->env, c);
        const struct push_options o = {.rollback = TRUE};
        const char *const twice[] = {"a", "a", NULL}, *const unknown[] = {"a", "b", NULL},
                          *const none[] = {NULL};
        const struct operation_filter all = {.state = -1};

        host_world_add_vm(c, "a");
        cr_expect(eq(ptr, push_operation_add(&w->env, c, j, NULL, twice, &o, NULL), NULL));
        cr_expect(eq(ptr, push_operation_add(&w->env, c, j, NULL, unknown, &o, NULL), NULL));
        cr_expect(eq(ptr, push_operation_add(&w->env, c, j, NULL, none, &o, NULL), NULL));
        g_autoptr(GPtrArray) operations = catalogue_operation_list(c, &all, NULL);
        cr_expect(eq(u32, operations->len, 0));
}

Test(catalogue_pushes, every_name_is_read_back)
{
        for (int i = 0; i < PUSH_STATE_MAX; i++) {
                PushState s;

                cr_expect(push_state_parse(push_state_name((PushState)i), &s));
                cr_expect(eq(int, (int)s, i));
        }
        for (int i = 0; i < PUSH_TRANSPORT_MAX; i++) {
                PushTransport t;

                cr_expect(push_transport_parse(push_transport_name((PushTransport)i), &t));
                cr_expect(eq(int, (int)t, i));
        }
        cr_expect(eq(str, (char *)plan_action_name((Moult__PlanAction)-1), "unknown"));
}
