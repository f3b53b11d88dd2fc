/* tests/unit/test_push_push_manager.c - whole pushes in one process: the host service on one side, fake
 * guests and fake monitors behind real sockets on the other. Nothing here depends on how long a thing takes.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>
#include <gio/gunixsocketaddress.h>

#include <string.h>

#include "host-service/catalogue/vms.h"
#include "tests/support/push_world.h"

TestSuite(push_manager, .timeout = 110);

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x
#define MIB  (1024u * 1024u)

Test(push_manager, pushes_over_the_serial_session_and_reports_what_happened)
{
        g_autoptr(World) w = world_new(3 * MIB + 777);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;
        g_autoptr(VmRecord) known = NULL;
        Moult__SourceKind sources[4];

        fake_agent_script(vm->agent)->fetches = TRUE;
        fake_agent_script(vm->agent)->expected = w->pack;
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_SUCCEEDED));
        cr_expect(eq(int, r->state, PUSH_STATE_DONE), "%s", r->text);
        cr_expect(eq(u64, r->generation, 7));
        cr_expect(eq(u64, r->bytes_done, 3 * MIB + 777));
        cr_expect(eq(u32, r->entries_change, 2));
        cr_expect(eq(int, r->source, MOULT__SOURCE_KIND__SOURCE_SERIAL));
        cr_expect(eq(u64, r->staging_us, 1234));
        cr_expect(eq(u64, r->switch_us, 56));
        cr_expect(eq(u32, fake_agent_offered(vm->agent, sources), 1));
        cr_expect(eq(u32, fake_agent_commits(vm->agent), 1));
        cr_expect(world_logged(w, "web-1 fetched") >= 0);
        known = catalogue_vm_get(w->catalogue, "web-1", NULL);
        cr_expect(eq(str, known->last_release, "demo 1.0"));
        cr_expect(eq(str, known->hostname, "web-1"));
}

Test(push_manager, who_still_runs_old_code_is_asked_and_kept_with_the_push)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;

        fake_agent_script(vm->agent)->stale = TRUE;
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_DONE), "%s", r->text);
        cr_assert(ne(ptr, r->stale, NULL));
        cr_expect(ne(ptr, strstr(r->stale, "\"known\":true"), NULL), "%s", r->stale);
        cr_expect(ne(ptr, strstr(r->stale, "\"unit\":\"xd.service\""), NULL), "%s", r->stale);
        cr_expect(ne(ptr, strstr(r->stale, "/usr/lib/libx.so"), NULL), "%s", r->stale);
}

Test(push_manager, a_guest_that_goes_away_when_it_is_asked_leaves_the_outcome)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;

        fake_agent_script(vm->agent)->cut_when_asked = TRUE;
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_DONE), "%s", r->text);
        cr_assert(ne(ptr, r->stale, NULL));
        cr_expect(ne(ptr, strstr(r->stale, "\"known\":false"), NULL), "%s", r->stale);
}

Test(push_manager, an_agent_that_knows_no_such_question_is_called_too_old)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;

        fake_agent_script(vm->agent)->old = TRUE;
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_DONE), "%s", r->text);
        cr_expect(ne(ptr, r->stale ? strstr(r->stale, "too old") : NULL, NULL), "%s", r->stale);
}

struct ending {
        Moult__TransactionPhase end;
        PushState state;
        MoultError error;
        guint commits;
};

ParameterizedTestParameters(push_manager, reports_how_the_guest_ended_it)
{
        static struct ending cases[] = {
                {P(REFUSED), PUSH_STATE_REFUSED, MOULT_ERROR_REFUSED, 0},
                {P(FAILED), PUSH_STATE_FAILED, MOULT_ERROR_NO_SPACE, 0},
                {P(ROLLED_BACK), PUSH_STATE_ROLLED_BACK, MOULT_ERROR_HEALTH, 0},
        };
        return cr_make_param_array(struct ending, cases, G_N_ELEMENTS(cases));
}

ParameterizedTest(struct ending *c, push_manager, reports_how_the_guest_ended_it)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;
        g_autoptr(GPtrArray) plan = NULL;
        guint total = 0;

        fake_agent_script(vm->agent)->end = c->end;
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, c->state));
        cr_expect(eq(int, r->error, c->error));
        cr_expect(eq(str, r->text, "the script says so"));
        cr_expect(eq(u32, fake_agent_commits(vm->agent), c->commits));
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_FAILED));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
        plan = catalogue_plan_list(w->catalogue, op, "web-1", 0, 10, &total, NULL);
        cr_expect(eq(u32, total, 3), "the plan with the reasons is kept");
}

Test(push_manager, a_dry_run_keeps_the_plan_and_changes_nothing)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        const char *vms[] = {"web-1", NULL};
        struct push_options o = {.dry_run = TRUE};
        g_autofree char *op = NULL;
        g_autoptr(GPtrArray) plan = NULL;
        guint total = 0;

        fake_agent_script(vm->agent)->plan_items = 1300;
        op = world_push(w, &o, vms);
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        plan = catalogue_plan_list(w->catalogue, op, "web-1", 1290, 100, &total, NULL);
        cr_expect(eq(u32, total, 1300));
        cr_expect(eq(u32, plan->len, 10));
        cr_expect(eq(int, world_logged(w, "web-1 staging"), -1));
        cr_expect(eq(int, world_logged(w, "web-1 object-add moult-pack-0"), -1), "not worth a hot-plug");
        cr_expect(eq(int, fake_agent_phase(vm->agent), P(FAILED)), "the guest is told that it is over");
}

Test(push_manager, an_absent_guest_is_unreachable_after_the_patience)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;

        world_kill_daemon(w);
        g_clear_pointer(&vm->agent, fake_agent_free);
        w->config.patience_ms = 100;
        world_start_daemon(w);
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_FAILED));
        cr_expect(eq(int, r->error, MOULT_ERROR_TIMEOUT));
        cr_expect(ne(ptr, strstr(r->text, "cannot be reached"), NULL));
}

/* --- the other side, or we, die --- */

struct death {
        Moult__TransactionPhase phase;
        gboolean restarts;
};

ParameterizedTestParameters(push_manager, goes_on_after_the_agent_died)
{
        static struct death cases[] = {
                {P(PLANNING), FALSE},   {P(PLANNED), FALSE},  {P(STAGING), FALSE},   {P(STAGED), FALSE},
                {P(COMMITTING), FALSE}, {P(ACTIVE), FALSE},   {P(COMMITTED), FALSE}, {P(PLANNING), TRUE},
                {P(PLANNED), TRUE},     {P(STAGING), TRUE},   {P(STAGED), TRUE},     {P(COMMITTING), TRUE},
                {P(ACTIVE), TRUE},      {P(COMMITTED), TRUE},
        };
        return cr_make_param_array(struct death, cases, G_N_ELEMENTS(cases));
}

ParameterizedTest(struct death *c, push_manager, goes_on_after_the_agent_died)
{
        g_autoptr(World) w = world_new(2 * MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        *fake_agent_script(vm->agent) = (struct fake_agent_script){.die_at = c->phase,
                                                                   .restarts = c->restarts,
                                                                   .fetches = TRUE,
                                                                   .expected = w->pack,
                                                                   .plan_items = 3};
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        cr_expect(world_logged(w, "web-1 dies") >= 0);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, fake_agent_commits(vm->agent), 1), "switched exactly once");
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

ParameterizedTestParameters(push_manager, goes_on_after_the_daemon_was_killed)
{
        static struct death cases[] = {
                {P(NONE), FALSE},   {P(PLANNING), FALSE},   {P(PLANNED), FALSE}, {P(STAGING), FALSE},
                {P(STAGED), FALSE}, {P(COMMITTING), FALSE}, {P(ACTIVE), FALSE},  {P(COMMITTED), FALSE},
        };
        return cr_make_param_array(struct death, cases, G_N_ELEMENTS(cases));
}

ParameterizedTest(struct death *c, push_manager, goes_on_after_the_daemon_was_killed)
{
        g_autoptr(World) w = world_new(2 * MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        struct fake_agent_script *script = fake_agent_script(vm->agent);
        g_autofree char *op = NULL;

        script->fetches = TRUE;
        script->expected = w->pack;
        script->hold_at = c->phase;
        op = world_push_one(w, "web-1");
        world_run_until_phase(w, vm, c->phase);
        world_kill_daemon(w);
        fake_agent_go_on(vm->agent);
        world_start_daemon(w);
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, world_count(w, "web-1 offered"), 1));
        cr_expect(eq(u32, fake_agent_commits(vm->agent), 1), "switched exactly once");
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

/* The daemon dies after every single turn of its main loop: slow progress, and still the same end. */
Test(push_manager, goes_on_however_often_the_daemon_is_killed)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = world_push_one(w, "web-1");

        for (guint lives = 0; lives < 60 && !operation_state_is_final(world_operation_state(w, op));
             lives++) {
                for (guint i = 0; i < 5 + lives; i++)
                        g_main_context_iteration(NULL, FALSE);
                world_kill_daemon(w);
                world_start_daemon(w);
        }
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, fake_agent_commits(vm->agent), 1));
        cr_expect(eq(u32, world_count(w, "web-1 offered"), 1));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

Test(push_manager, a_busy_guest_is_asked_again)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = NULL;

        fake_agent_script(vm->agent)->busy = 2;
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
}

Test(push_manager, two_pushes_to_one_vm_run_one_after_the_other)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *first = NULL, *second = NULL;

        fake_agent_script(vm->agent)->hold_at = P(STAGING);
        first = world_push_one(w, "web-1");
        second = world_push_one(w, "web-1");
        world_run_until_phase(w, vm, P(STAGING));
        world_expect_state(w, second, "web-1", PUSH_STATE_QUEUED);
        fake_agent_go_on(vm->agent);
        world_run_until_ended(w, second);
        world_expect_state(w, first, "web-1", PUSH_STATE_DONE);
        world_expect_state(w, second, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, world_count(w, "web-1 offered"), 2));
}

Test(push_manager, no_more_pushes_run_at_once_than_the_limit)
{
        static const char *const names[] = {"a", "b", "c", "d", "e", NULL};
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *op = NULL;
        guint offered = 0;

        world_kill_daemon(w);
        w->config.concurrent = 2;
        world_start_daemon(w);
        for (guint i = 0; names[i]; i++)
                fake_agent_script(world_add_vm(w, names[i], FALSE)->agent)->hold_at = P(STAGING);
        op = world_push(w, &(struct push_options){0}, names);
        world_run_until_phase(w, &w->vms[0], P(STAGING));
        world_run_until_phase(w, &w->vms[1], P(STAGING));
        while (g_main_context_iteration(NULL, FALSE))
                ;
        for (guint i = 0; names[i]; i++)
                offered += fake_agent_phase(w->vms[i].agent) != P(NONE);
        cr_expect(eq(u32, offered, 2));
        for (guint i = 0; names[i]; i++)
                fake_agent_go_on(w->vms[i].agent);
        world_run_until_ended(w, op);
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_SUCCEEDED));
}

/* VMs that are off wait without taking a place. */
Test(push_manager, absent_guests_keep_no_other_push_waiting)
{
        static const char *const names[] = {"off-1", "off-2", "on", NULL};
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *op = NULL;

        world_kill_daemon(w);
        w->config.concurrent = 1;
        world_start_daemon(w);
        for (guint i = 0; names[i]; i++)
                world_add_vm(w, names[i], FALSE);
        g_clear_pointer(&w->vms[0].agent, fake_agent_free);
        g_clear_pointer(&w->vms[1].agent, fake_agent_free);
        op = world_push(w, &(struct push_options){0}, names);
        world_run_until_logged(w, "on committed");
        world_expect_state(w, op, "off-1", PUSH_STATE_CONNECT);
        world_expect_state(w, op, "off-2", PUSH_STATE_CONNECT);
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        world_run_until_ended(w, op);
        world_expect_state(w, op, "on", PUSH_STATE_DONE);
}

/* It answers every question, and stays where it is: its place goes to the next one. */
Test(push_manager, a_guest_that_does_not_get_on_is_given_up_and_told)
{
        static const char *const names[] = {"idle", "next", NULL};
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;

        world_kill_daemon(w);
        w->config.concurrent = 1;
        w->config.stall_ms = 2000;
        world_start_daemon(w);
        fake_agent_script(world_add_vm(w, names[0], FALSE)->agent)->hold_at = P(STAGING);
        world_add_vm(w, names[1], FALSE);
        op = world_push(w, &(struct push_options){0}, names);
        world_run_until_ended(w, op);
        r = world_record(w, op, "idle");
        cr_expect(eq(int, r->state, PUSH_STATE_FAILED));
        cr_expect(eq(int, r->error, MOULT_ERROR_TIMEOUT));
        cr_expect(ne(ptr, strstr(r->text, "does not get on"), NULL), "%s", r->text);
        cr_expect(eq(int, fake_agent_phase(w->vms[0].agent), P(FAILED)), "it was told to forget it");
        world_expect_state(w, op, "next", PUSH_STATE_DONE);
}

/* For as long as it takes; once it has the place, its silence counts again. */
Test(push_manager, a_guest_is_not_given_up_while_it_waits_for_a_place)
{
        static const char *const names[] = {"silent", "also-silent", "good", NULL};
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *op = NULL;

        world_kill_daemon(w);
        w->config.concurrent = 1;
        w->config.patience_ms = 3000;
        world_start_daemon(w);
        for (guint i = 0; i < 2; i++)
                fake_agent_script(world_add_vm(w, names[i], FALSE)->agent)->hold_at = P(STAGING);
        world_add_vm(w, names[2], FALSE);
        op = world_push(w, &(struct push_options){0}, names);
        world_run_until_ended(w, op);
        world_expect_state(w, op, "silent", PUSH_STATE_FAILED);
        world_expect_state(w, op, "also-silent", PUSH_STATE_FAILED);
        world_expect_state(w, op, "good", PUSH_STATE_DONE);
        cr_expect(eq(u32, world_count(w, "also-silent offered"), 1), "it had its place");
}

Test(push_manager, an_operation_of_which_a_part_fails_is_partial)
{
        static const char *const names[] = {"good", "bad", NULL};
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *op = NULL;

        world_add_vm(w, "good", FALSE);
        fake_agent_script(world_add_vm(w, "bad", FALSE)->agent)->end = P(REFUSED);
        op = world_push(w, &(struct push_options){0}, names);
        world_run_until_ended(w, op);
        world_expect_state(w, op, "good", PUSH_STATE_DONE);
        world_expect_state(w, op, "bad", PUSH_STATE_REFUSED);
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_PARTIAL));
}

/* --- the rest of the conversation --- */

Test(push_manager, rolls_a_vm_back)
{
        g_autoptr(World) w = world_new(MIB);
        const char *vms[] = {"web-1", NULL};
        struct push_options o = {.rollback = TRUE};
        g_autofree char *op = NULL;

        world_add_vm(w, "web-1", TRUE);
        op = world_push(w, &o, vms);
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(world_logged(w, "web-1 rolled-back") >= 0);
        cr_expect(eq(int, world_logged(w, "web-1 object-add moult-pack-0"), -1));
}

Test(push_manager, a_rollback_goes_on_after_both_sides_died)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        const char *vms[] = {"web-1", NULL};
        struct push_options o = {.rollback = TRUE};
        g_autofree char *op = NULL;

        fake_agent_script(vm->agent)->die_at = P(ROLLED_BACK);
        fake_agent_script(vm->agent)->hold_at = P(ROLLING_BACK);
        op = world_push(w, &o, vms);
        world_run_until_phase(w, vm, P(ROLLING_BACK));
        world_kill_daemon(w);
        fake_agent_go_on(vm->agent);
        world_start_daemon(w);
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, world_count(w, "web-1 rolled-back"), 1));
}

static gboolean runs_nothing(World *w, gpointer user)
{
        g_autoptr(VmRecord) vm = catalogue_vm_get(w->catalogue, "web-1", NULL);

        return vm->last_release == NULL;
}

static gboolean runs_demo(World *w, gpointer user)
{
        g_autoptr(VmRecord) vm = catalogue_vm_get(w->catalogue, "web-1", NULL);

        return g_strcmp0(vm->last_release, "demo 1.0") == 0;
}

Test(push_manager, after_a_rollback_the_vm_no_longer_runs_what_was_taken_back)
{
        g_autoptr(World) w = world_new(MIB);
        const char *vms[] = {"web-1", NULL};
        struct push_options o = {.rollback = TRUE};
        g_autofree char *op = NULL, *back = NULL;

        world_add_vm(w, "web-1", FALSE);
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        cr_expect(runs_demo(w, NULL));
        back = world_push(w, &o, vms);
        world_run_until_ended(w, back);
        world_run(w, runs_nothing, NULL);
}

Test(push_manager, a_rollback_that_was_asked_for_in_the_guest_is_noticed)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = world_push_one(w, "web-1");

        world_run_until_ended(w, op);
        fake_agent_roll_back(vm->agent);
        world_run(w, runs_nothing, NULL);
}

/* The confirmation arrived, its answer did not: the push has failed, and yet the release is in place. */
Test(push_manager, what_a_guest_committed_unseen_is_known_when_it_is_back)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = world_push_one(w, "web-1");

        world_run_until_ended(w, op);
        world_run_sql(w, "UPDATE vms SET last_release = NULL");
        fake_agent_cut(vm->agent);
        world_run(w, runs_demo, NULL);
}

struct told {
        gboolean done;
        guint64 generation;
        int error;
};

static void on_history(const Moult__History *history, const GError *error, gpointer user)
{
        struct told *t = user;

        t->done = TRUE;
        t->error = error ? error->code : 0;
        t->generation = history && history->n_items ? history->items[0]->generation : 0;
}

static gboolean is_told(World *w, gpointer user)
{
        return ((struct told *)user)->done;
}

Test(push_manager, asks_a_guest_for_its_history)
{
        g_autoptr(World) w = world_new(MIB);
        const struct guest_view *view;
        struct told told = {0}, absent = {0};
        g_autofree char *op = NULL;

        world_add_vm(w, "web-1", FALSE);
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        view = push_manager_guest_view(w->manager);
        view->ops->history(view->self, "web-1", 10, 60000, on_history, &told);
        world_run(w, is_told, &told);
        cr_expect(eq(u64, told.generation, 7));
        view->ops->history(view->self, "nobody", 10, 60000, on_history, &absent);
        world_run(w, is_told, &absent);
        cr_expect(eq(int, absent.error, MOULT_ERROR_TIMEOUT));
}

Test(push_manager, a_removed_vm_is_let_go)
{
        g_autoptr(World) w = world_new(MIB);
        const struct guest_view *view;
        struct guest_status status = {0};

        world_add_vm(w, "web-1", TRUE);
        world_run_until_logged(w, "web-1 connected");
        view = push_manager_guest_view(w->manager);
        cr_assert(catalogue_vm_remove(w->catalogue, "web-1", NULL));
        view->ops->vm_changed(view->self, "web-1");
        view->ops->status(view->self, "web-1", &status);
        cr_expect(not(status.connected));
        world_run_until_logged(w, "web-1 closed by host");
}
