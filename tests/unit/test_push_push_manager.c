/* tests/unit/test_push_push_manager.c - whole pushes in one process: the host service on one side, fake
 * guests and fake monitors behind real sockets on the other. Nothing here depends on how long a thing takes.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>
#include <gio/gunixsocketaddress.h>
#include <sqlite3.h>
#include <string.h>

#include "host-service/catalogue/vms.h"
#include "tests/support/push_world.h"

TestSuite(push_manager, .timeout = 110);

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x
#define MIB  (1024u * 1024u)

static void expect_state(World *w, const char *operation, const char *vm, PushState state)
{
        g_autoptr(PushRecord) r = world_record(w, operation, vm);

        cr_expect(eq(int, r->state, state), "%s is %s: %s", vm, push_state_name(r->state),
                  r->text ? r->text : "");
}

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

Test(push_manager, plugs_a_window_before_the_offer_and_takes_it_off_again)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = world_push_one(w, "web-1");
        Moult__SourceKind sources[4];

        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, fake_agent_offered(vm->agent, sources), 2));
        cr_expect(eq(int, sources[0], MOULT__SOURCE_KIND__SOURCE_IVSHMEM));
        cr_expect(eq(int, sources[1], MOULT__SOURCE_KIND__SOURCE_SERIAL));
        cr_expect(lt(int, world_logged(w, "web-1 device_add moult-window-0"),
                     world_logged(w, "web-1 offered")));
        cr_expect(
                gt(int, world_logged(w, "web-1 device_del moult-window-0"), world_logged(w, "web-1 staged")));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

Test(push_manager, the_window_of_an_instant_push_stays_until_all_is_copied)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        const struct push_options options = {.instant = TRUE, .confirm_timeout_ms = 60000};
        g_autofree char *op = NULL;

        fake_agent_script(vm->agent)->hold_at = P(COMMITTING); /* where it copies */
        op = world_push(w, &options, (const char *const[]){"web-1", NULL});
        world_run_until_phase(w, vm, P(COMMITTING));
        /* Time enough for the monitor to be told otherwise. */
        world_add_vm(w, "web-2", TRUE);
        g_autofree char *other = world_push_one(w, "web-2");
        world_run_until_ended(w, other);
        cr_expect(eq(int, world_logged(w, "web-1 device_del moult-window-0"), -1));
        world_kill_daemon(w);
        world_start_daemon(w);
        fake_agent_go_on(vm->agent);
        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(ge(int, world_logged(w, "web-1 device_del moult-window-0"), 0));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

static gboolean is_let_go(World *w, gpointer user)
{
        return !fake_qmp_is_held(((struct world_vm *)user)->qmp);
}

Test(push_manager, the_monitor_is_let_go_after_the_push)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = world_push_one(w, "web-1");

        world_run_until_ended(w, op);
        world_run(w, is_let_go, vm);
}

struct no_window {
        struct fake_qmp_script script;
        char instead[32];
};

ParameterizedTestParameters(push_manager, goes_on_without_a_window)
{
        static struct no_window cases[] = {
                {{.ports = 0, .no_ivshmem = TRUE}, ""}, /* a machine without root ports that takes nothing */
                {{.ports = 2, .no_ivshmem = TRUE}, ""}, /* a QEMU without ivshmem */
                {{.ports = 2, .close_instead = TRUE}, ""}, {{.ports = 2}, "nonsense"},
                {{.ports = 2}, "{\"return\":[[[[[[[["},
        };
        return cr_make_param_array(struct no_window, cases, G_N_ELEMENTS(cases));
}

ParameterizedTest(struct no_window *c, push_manager, goes_on_without_a_window)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;
        Moult__SourceKind sources[4];

        *fake_qmp_script(vm->qmp) = c->script;
        fake_qmp_script(vm->qmp)->say_instead = c->instead[0] ? c->instead : NULL;
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, fake_agent_offered(vm->agent, sources), 1));
        cr_expect(eq(int, sources[0], MOULT__SOURCE_KIND__SOURCE_SERIAL));
}

Test(push_manager, a_forced_window_that_cannot_be_had_fails_the_push_with_the_reason)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        const char *vms[] = {"web-1", NULL};
        struct push_options o = {.transport = PUSH_TRANSPORT_IVSHMEM};
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;

        fake_qmp_script(vm->qmp)->no_ivshmem = TRUE;
        op = world_push(w, &o, vms);
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_FAILED));
        cr_expect(ne(ptr, strstr(r->text, "not a valid device model"), NULL), "%s", r->text);
        cr_expect(eq(int, world_logged(w, "web-1 offered"), -1));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

Test(push_manager, a_window_that_an_earlier_daemon_left_is_taken_off_first)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        fake_qmp_leave(vm->qmp, 3, "/somewhere/old.moult");
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(lt(int, world_logged(w, "web-1 object-del moult-pack-3"),
                     world_logged(w, "web-1 object-add moult-pack-0")));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

Test(push_manager, the_same_pack_still_plugged_is_used_again)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *path = w->env->store->path(w->env->self, w->release->file);
        g_autofree char *op = NULL;

        fake_qmp_leave(vm->qmp, 1, path);
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(int, world_logged(w, "web-1 object-add moult-pack-0"), -1));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

Test(push_manager, memory_that_is_still_in_use_is_asked_for_again)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        fake_qmp_script(vm->qmp)->in_use = 3;
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, world_count(w, "web-1 object-del moult-pack-0"), 4));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
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
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
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

/* --- the other side, or we, die
 * -------------------------------------------------------------------------------- */

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
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
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
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
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
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, fake_agent_commits(vm->agent), 1));
        cr_expect(eq(u32, world_count(w, "web-1 offered"), 1));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

/* --- cancelling, queueing
 * -------------------------------------------------------------------------------------- */

Test(push_manager, a_cancelled_push_is_aborted_in_the_guest)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        fake_agent_script(vm->agent)->hold_at = P(STAGING);
        op = world_push_one(w, "web-1");
        world_run_until_phase(w, vm, P(STAGING));
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_CANCELLED);
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_CANCELLED));
        cr_expect(eq(int, fake_agent_phase(vm->agent), P(FAILED)));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

static gboolean is_mapped(World *w)
{
        const struct guest_view *view = push_manager_guest_view(w->manager);
        g_autofree char *vm = view->ops->mapped_by(view->self, w->release->digest);

        return vm != NULL;
}

static void run_sql(World *w, const char *sql)
{
        g_autofree char *state = tempdir_path(w->dir, "state");
        g_autofree char *path = g_build_filename(state, "catalogue.db", NULL);
        sqlite3 *db = NULL;

        cr_assert(eq(int, sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK));
        cr_assert(eq(int, sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK), "%s", sqlite3_errmsg(db));
        sqlite3_close(db);
}

struct push_wait {
        const char *operation;
        PushState state;
};

static gboolean is_in_state(World *w, gpointer user)
{
        const struct push_wait *wait = user;
        g_autoptr(PushRecord) r = world_record(w, wait->operation, "web-1");

        return r->state == wait->state;
}

/* Of the push to web-1. */
static void run_until_state(World *w, const char *operation, PushState state)
{
        struct push_wait wait = {operation, state};

        world_run(w, is_in_state, &wait);
}

/* The taking off is asked for while the plugging has not ended: each must hear of its own end only. */
Test(push_manager, a_push_cancelled_while_its_window_is_being_plugged)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        fake_qmp_script(vm->qmp)->hold_device = TRUE;
        op = world_push_one(w, "web-1");
        world_run_until_logged(w, "web-1 device_add moult-window-0");
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        run_until_state(w, op, PUSH_STATE_UNPLUG);
        fake_qmp_go_on(vm->qmp);
        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_CANCELLED);
        while (g_main_context_iteration(NULL, FALSE))
                ;
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0), "what was plugged in the end is taken off");
        cr_expect(eq(int, world_logged(w, "web-1 offered"), -1));
}

/* The disk under the catalogue: another connection makes every new state of a push fail. */
static void make_disk(World *w, gboolean full)
{
        run_sql(w, full ? "CREATE TRIGGER full BEFORE UPDATE ON pushes WHEN NEW.state <> OLD.state"
                          " BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
                        : "DROP TRIGGER full");
}

/* A cancel that comes too late must not take the place of what waits for the disk. */
Test(push_manager, a_late_cancel_while_the_disk_is_full_loses_nothing)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        op = world_push_one(w, "web-1");
        run_until_state(w, op, PUSH_STATE_CONFIRM);
        make_disk(w, TRUE);
        world_run_until_phase(w, vm, P(COMMITTED));
        while (g_main_context_iteration(NULL, FALSE))
                ;
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        make_disk(w, FALSE);
        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

/* --- what an ended push left ---------------------------------------------------------------------------- */

/* An ended push whose window is still plugged, in slot 3, by the row and in QEMU. */
static void leave_window(World *w, struct world_vm *vm)
{
        g_autofree char *op = world_push_one(w, vm->name);

        world_run_until_ended(w, op);
        run_sql(w, "UPDATE pushes SET plug = 'moult-window'");
        fake_qmp_leave(vm->qmp, 3, "/somewhere/old.moult");
}

static char *push_over_serial(World *w, const char *name)
{
        const char *vms[] = {name, NULL};

        return world_push(w, &(struct push_options){.transport = PUSH_TRANSPORT_SERIAL}, vms);
}

static gboolean is_taken_off(World *w, gpointer user)
{
        g_autoptr(GPtrArray) left = catalogue_push_left_plugged(w->catalogue, NULL);

        return left->len == 0 && fake_qmp_objects(((struct world_vm *)user)->qmp) == 0;
}

Test(push_manager, a_window_is_not_forgotten_over_a_later_push_without_one)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        leave_window(w, vm);
        op = push_over_serial(w, "web-1");
        world_run_until_ended(w, op);
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 1), "this daemon does not know of it");
        world_kill_daemon(w);
        world_start_daemon(w);
        cr_expect(is_mapped(w));
        world_run(w, is_taken_off, vm);
        cr_expect(not(is_mapped(w)));
}

Test(push_manager, a_window_that_could_not_be_taken_off_is_tried_again_after_the_next_push)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        leave_window(w, vm);
        world_kill_daemon(w);
        fake_qmp_script(vm->qmp)->close_instead = TRUE; /* the try at the start */
        world_start_daemon(w);
        while (fake_qmp_script(vm->qmp)->close_instead)
                g_main_context_iteration(NULL, TRUE);
        op = push_over_serial(w, "web-1");
        world_run_until_ended(w, op);
        world_run(w, is_taken_off, vm);
        cr_expect(not(is_mapped(w)));
}

/* The socket's file stays when QEMU is killed, and nobody listens there any more. */
Test(push_manager, a_killed_vm_has_no_window)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *path = tempdir_path(w->dir, "web-1.q");
        g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
        g_autoptr(GSocket) stale = NULL;
        g_autofree char *op = NULL, *next = NULL;
        g_autoptr(PushRecord) r = NULL, second = NULL;

        fake_agent_script(vm->agent)->hold_at = P(STAGING);
        op = world_push_one(w, "web-1");
        world_run_until_phase(w, vm, P(STAGING));
        g_clear_pointer(&vm->qmp, fake_qmp_free);
        stale = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_DEFAULT, NULL);
        cr_assert(g_socket_bind(stale, address, FALSE, NULL));
        cr_assert(g_socket_close(stale, NULL));
        fake_agent_go_on(vm->agent);
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_DONE));
        cr_expect(eq(ptr, r->plug, NULL), "it went with the VM");
        cr_expect(not(is_mapped(w)));
        next = world_push_one(w, "web-1");
        world_run_until_ended(w, next);
        second = world_record(w, next, "web-1");
        cr_expect(eq(int, second->state, PUSH_STATE_DONE), "over the session");
        cr_expect(eq(ptr, second->plug, NULL));
}

ParameterizedTestParameters(push_manager, what_a_given_up_push_left_keeps_no_later_one_waiting)
{
        static gboolean rollback[] = {FALSE, TRUE};

        return cr_make_param_array(gboolean, rollback, 2);
}

/* The guest is there and says nothing; given up, it stays where it was; the next push has it forget that. */
ParameterizedTest(gboolean *rollback, push_manager, what_a_given_up_push_left_keeps_no_later_one_waiting)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        const char *vms[] = {"web-1", NULL};
        struct push_options o = {.rollback = *rollback};
        g_autofree char *first = NULL, *second = NULL;
        g_autoptr(PushRecord) r = NULL, after = NULL;

        world_kill_daemon(w);
        w->config.patience_ms = 1000;
        world_start_daemon(w);
        fake_agent_script(vm->agent)->hold_at = P(STAGING);
        first = world_push_one(w, "web-1");
        run_until_state(w, first, PUSH_STATE_STAGE);
        world_run_until_phase(w, vm, P(STAGING));
        fake_agent_script(vm->agent)->deaf = TRUE;
        world_run_until_ended(w, first);
        r = world_record(w, first, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_FAILED));
        cr_expect(r->held);
        cr_expect(eq(int, fake_agent_phase(vm->agent), P(STAGING)));

        world_kill_daemon(w);
        w->config.patience_ms = 20000;
        world_start_daemon(w);
        fake_agent_script(vm->agent)->deaf = FALSE;
        fake_agent_script(vm->agent)->hold_at = P(NONE);
        second = world_push(w, &o, vms);
        world_run_until_ended(w, second);
        expect_state(w, second, "web-1", PUSH_STATE_DONE);
        after = world_record(w, first, "web-1");
        cr_expect(not(after->held));
        cr_expect(eq(int, after->state, PUSH_STATE_FAILED));
}

Test(push_manager, a_cancel_outlives_the_daemon)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = NULL;

        fake_agent_script(vm->agent)->hold_at = P(STAGING);
        op = world_push_one(w, "web-1");
        world_run_until_phase(w, vm, P(STAGING));
        cr_assert(catalogue_operation_request_cancel(w->catalogue, op, NULL));
        world_kill_daemon(w);
        world_start_daemon(w);
        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_CANCELLED);
        cr_expect(eq(u32, fake_agent_commits(vm->agent), 0));
}

Test(push_manager, a_cancel_before_the_confirmation_rolls_back)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = NULL;

        fake_agent_script(vm->agent)->hold_at = P(COMMITTING);
        op = world_push_one(w, "web-1");
        world_run_until_phase(w, vm, P(COMMITTING));
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_CANCELLED);
        cr_expect(eq(int, fake_agent_phase(vm->agent), P(ROLLED_BACK)));
        cr_expect(eq(int, world_logged(w, "web-1 committed"), -1));
}

Test(push_manager, a_cancel_when_the_guest_has_switched_is_told_as_rolled_back)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;

        fake_agent_script(vm->agent)->hold_at = P(COMMITTING);
        fake_agent_script(vm->agent)->switches_early = TRUE;
        op = world_push_one(w, "web-1");
        world_run_until_phase(w, vm, P(COMMITTING));
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_ROLLED_BACK);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, (int)r->error, MOULT_ERROR_CANCELLED));
}

Test(push_manager, a_cancel_after_the_confirmation_comes_too_late)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        op = world_push_one(w, "web-1");
        world_run_until_phase(w, vm, P(COMMITTED));
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_SUCCEEDED));
}

Test(push_manager, a_busy_guest_is_asked_again)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = NULL;

        fake_agent_script(vm->agent)->busy = 2;
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
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
        expect_state(w, second, "web-1", PUSH_STATE_QUEUED);
        fake_agent_go_on(vm->agent);
        world_run_until_ended(w, second);
        expect_state(w, first, "web-1", PUSH_STATE_DONE);
        expect_state(w, second, "web-1", PUSH_STATE_DONE);
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
        expect_state(w, op, "off-1", PUSH_STATE_CONNECT);
        expect_state(w, op, "off-2", PUSH_STATE_CONNECT);
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        world_run_until_ended(w, op);
        expect_state(w, op, "on", PUSH_STATE_DONE);
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
        expect_state(w, op, "next", PUSH_STATE_DONE);
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
        expect_state(w, op, "good", PUSH_STATE_DONE);
        expect_state(w, op, "bad", PUSH_STATE_REFUSED);
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_PARTIAL));
}

/* --- the rest of the conversation
 * ------------------------------------------------------------------------------ */

Test(push_manager, rolls_a_vm_back)
{
        g_autoptr(World) w = world_new(MIB);
        const char *vms[] = {"web-1", NULL};
        struct push_options o = {.rollback = TRUE};
        g_autofree char *op = NULL;

        world_add_vm(w, "web-1", TRUE);
        op = world_push(w, &o, vms);
        world_run_until_ended(w, op);
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
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
        expect_state(w, op, "web-1", PUSH_STATE_DONE);
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
        run_sql(w, "UPDATE vms SET last_release = NULL");
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

        world_add_vm(w, "web-1", FALSE);
        world_run_until_logged(w, "web-1 connected");
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

static void ask_upgrade(struct world_vm *vm, const char *const *paths, session_reply_func done, gpointer user)
{
        Moult__UpgradeRequest request = MOULT__UPGRADE_REQUEST__INIT;
        ProtobufCBinaryData data[8];
        Message m = MOULT__MESSAGE__INIT;

        request.paths = data;
        for (; *paths; paths++)
                data[request.n_paths++] = message_bytes(*paths);
        m.body_case = MOULT__MESSAGE__BODY_UPGRADE_REQUEST;
        m.upgrade_request = &request;
        session_request(fake_agent_session(vm->agent), &m, 0, done, user);
}

struct answer {
        gboolean done;
        int error;
        char text[512];
};

static void on_answer(Session *s, const Message *reply, const GError *error, gpointer user)
{
        struct answer *a = user;

        a->done = TRUE;
        a->error = error ? error->code : 0;
        g_strlcpy(a->text, error ? error->message : "", sizeof a->text);
}

static gboolean is_answered(World *w, gpointer user)
{
        return ((struct answer *)user)->done;
}

static char *newest_operation(World *w)
{
        struct operation_filter f = {.state = -1};
        g_autoptr(GPtrArray) list = catalogue_operation_list(w->catalogue, &f, NULL);

        return list->len ? g_strdup(((OperationRecord *)list->pdata[0])->id) : NULL;
}

Test(push_manager, a_guest_that_asks_for_files_gets_the_release_that_has_them)
{
        static const char *const paths[] = {"/etc/b", "etc/a", "/etc/a", NULL};
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        struct answer first = {0}, again = {0};
        g_autofree char *op = NULL, *same = NULL;
        g_autoptr(VmRecord) known = NULL;
        g_autoptr(PushRecord) r = NULL;

        fake_agent_script(vm->agent)->hold_at = P(STAGING);
        world_run_until_logged(w, "web-1 connected");
        ask_upgrade(vm, paths, on_answer, &first);
        world_run(w, is_answered, &first);
        cr_expect(eq(int, first.error, 0), "%s", first.text);
        op = newest_operation(w);
        ask_upgrade(vm, paths, on_answer, &again);
        world_run(w, is_answered, &again);
        same = newest_operation(w);
        cr_expect(eq(str, op, same), "the same request is not pushed twice");
        world_run_until_phase(w, vm, P(STAGING));
        fake_agent_go_on(vm->agent);
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_DONE));
        cr_assert(eq(u32, g_strv_length(r->options.selection), 2));
        cr_expect(eq(str, r->options.selection[0], "etc/a"));
        cr_expect(eq(str, r->options.selection[1], "etc/b"));
        known = catalogue_vm_get(w->catalogue, "web-1", NULL);
        cr_expect(eq(str, known->last_release, "demo 1.0 (selected files)"));
}

Test(push_manager, files_that_no_release_has_are_named)
{
        static const char *const paths[] = {"/etc/a", "/no/such", "/nor/this", NULL};
        static const char *const evil[] = {"/etc/../shadow", NULL};
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        struct answer missing = {0}, refused = {0};

        world_run_until_logged(w, "web-1 connected");
        ask_upgrade(vm, paths, on_answer, &missing);
        world_run(w, is_answered, &missing);
        cr_expect(eq(int, missing.error, MOULT_ERROR_NOT_FOUND));
        cr_expect(ne(ptr, strstr(missing.text, "/no/such, /nor/this"), NULL), "%s", missing.text);
        cr_expect(eq(ptr, strstr(missing.text, "/etc/a"), NULL));
        ask_upgrade(vm, evil, on_answer, &refused);
        world_run(w, is_answered, &refused);
        cr_expect(eq(int, refused.error, MOULT_ERROR_MALFORMED));
}

/* Releases that have one file each; the agent holds the first push, so that all of them wait. */
Test(push_manager, a_guest_holds_no_more_than_four_unfinished_pushes_of_its_own)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        struct answer a;

        fake_agent_script(vm->agent)->hold_at = P(STAGING);
        world_run_until_logged(w, "web-1 connected");
        for (guint8 i = 1; i <= 5; i++) {
                g_autofree char *name = g_strdup_printf("r%u", i), *path = g_strdup_printf("opt/%u", i);
                const char *const paths[] = {path, NULL};
                ReleaseRecord r = {.name = name, .version = (char *)"1", .file = name, .entries = 1};

                memset(r.digest, i, sizeof r.digest);
                cr_assert(catalogue_release_add(w->catalogue, &r, paths, NULL));
                a = (struct answer){0};
                ask_upgrade(vm, paths, on_answer, &a);
                world_run(w, is_answered, &a);
                cr_expect(eq(int, a.error, i <= 4 ? 0 : MOULT_ERROR_BUSY), "request %u: %s", i, a.text);
        }
        cr_expect(ne(ptr, strstr(a.text, "ask again"), NULL), "%s", a.text);
        cr_expect(eq(i64, catalogue_operation_count_open(w->catalogue, "web-1"), 4));
        cr_expect(eq(i64, catalogue_operation_count_open(w->catalogue, NULL), 0));
        g_free(world_push_one(w, "web-1"));
        cr_expect(eq(i64, catalogue_operation_count_open(w->catalogue, NULL), 1));
}

Test(push_manager, a_guest_that_asks_too_often_is_told_to_wait)
{
        static const char *const paths[] = {"/no/such", NULL};
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        int last = 0;

        world_run_until_logged(w, "web-1 connected");
        for (int i = 0; i < 20 && last != MOULT_ERROR_BUSY; i++) {
                struct answer a = {0};

                ask_upgrade(vm, paths, on_answer, &a);
                world_run(w, is_answered, &a);
                last = a.error;
        }
        cr_expect(eq(int, last, MOULT_ERROR_BUSY));
}

Test(push_manager, a_pack_that_may_be_plugged_is_said_to_be_mapped)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        cr_expect(not(is_mapped(w)));
        fake_agent_script(vm->agent)->hold_at = P(STAGING);
        op = world_push_one(w, "web-1");
        world_run_until_phase(w, vm, P(STAGING));
        cr_expect(is_mapped(w));
        fake_agent_go_on(vm->agent);
        world_run_until_ended(w, op);
        cr_expect(not(is_mapped(w)));
}
