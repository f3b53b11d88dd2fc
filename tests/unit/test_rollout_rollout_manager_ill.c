/* tests/unit/test_rollout_rollout_manager_ill.c - rollouts over restarts, and while the catalogue cannot be
 * written. What the simulation found, one by one. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "host-service/rollout/rollout_add.h"
#include "tests/support/push_world.h"

TestSuite(rollout_manager_ill, .timeout = 110);

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x
#define MIB  (1024u * 1024u)

static char *begin(World *w, const struct rollout_options *options)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) vms = catalogue_vm_select(w->catalogue, NULL, NULL);
        struct rollout_options o = *options;
        char *id;

        o.push.confirm_timeout_ms = 60000;
        id = rollout_add(w->env, w->catalogue, w->jobs, w->release, vms, &o, &error);
        cr_assert(ne(ptr, id, NULL), "%s", error ? error->message : "");
        return id;
}

static void run_what_is_ready(void)
{
        while (g_main_context_iteration(NULL, FALSE))
                ;
}

static gboolean has_session(World *w, gpointer user)
{
        const struct world_vm *vm = user;

        return fake_agent_session(vm->agent) != NULL;
}

static gboolean is_queued(World *w, gpointer user)
{
        g_autoptr(PushRecord) r = world_record(w, user, "web-1");

        return r->state == PUSH_STATE_QUEUED && !r->held_back;
}

/* Seeds 828, 1263 and 1506: after a restart the pushes of an earlier operation that only waited began, beside
 * those that had begun before: in their places, and with their guests. */
Test(rollout_manager_ill, what_had_begun_goes_on_before_what_only_waits)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL, *other = NULL;

        world_add_vm(w, "web-0", FALSE);
        world_add_vm(w, "web-1", FALSE);
        fake_agent_script(w->vms[0].agent)->hold_at = P(STAGING);
        fake_agent_script(w->vms[1].agent)->hold_at = P(STAGING);
        id = begin(w, &(struct rollout_options){.batch = "1"});
        other = world_push_one(w, "web-1");
        world_run_until_phase(w, &w->vms[0], P(STAGING));
        world_run_until_phase(w, &w->vms[1], P(STAGING));
        fake_agent_go_on(w->vms[0].agent);
        world_run(w, is_queued, id); /* its wave has come, and its VM is busy */
        world_kill_daemon(w);
        world_start_daemon(w);
        world_run(w, has_session, &w->vms[1]);
        run_what_is_ready();
        world_expect_state(w, id, "web-1", PUSH_STATE_QUEUED);
        world_expect_state(w, other, "web-1", PUSH_STATE_STAGE);
        fake_agent_go_on(w->vms[1].agent);
        world_run_until_ended(w, id);
        world_expect_state(w, other, "web-1", PUSH_STATE_DONE);
        world_expect_state(w, id, "web-1", PUSH_STATE_DONE);
}

/* --- while the catalogue cannot be written --- */

/* Two VMs in one wave, and so many places. */
static char *begin_two(World *w, guint concurrent)
{
        world_kill_daemon(w);
        w->config.concurrent = concurrent;
        world_start_daemon(w);
        world_add_vm(w, "web-0", FALSE);
        world_add_vm(w, "web-1", FALSE);
        fake_agent_script(w->vms[0].agent)->hold_at = P(STAGING);
        return begin(w, &(struct rollout_options){0});
}

/* @what: of a trigger. */
static void fall_ill(World *w, const char *what)
{
        g_autofree char *sql = g_strdup_printf(
                "CREATE TRIGGER ill BEFORE UPDATE %s BEGIN SELECT RAISE(ABORT, 'ill'); END", what);

        world_run_sql(w, sql);
}

static void recover(World *w)
{
        world_run_sql(w, "DROP TRIGGER ill");
}

static gboolean is_stopped(World *w, gpointer user)
{
        g_autoptr(RolloutRecord) r = catalogue_rollout_get(w->catalogue, user, NULL);
        struct rollout_counts n;

        cr_assert(catalogue_rollout_count(w->catalogue, user, -1, &n, NULL));
        return r->state == ROLLOUT_STOPPED && n.running == 0;
}

static void expect_held_back(World *w, char *id)
{
        g_autoptr(PushRecord) r = NULL;

        world_run(w, is_stopped, id);
        r = world_record(w, id, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_QUEUED));
        cr_expect(r->held_back);
        cr_expect(not(r->begun));
        cr_expect(eq(u32, world_count(w, "web-1 offered"), 0));
}

static gboolean has_ended(World *w, gpointer user)
{
        g_autoptr(PushRecord) r = world_record(w, user, "web-0");

        return push_state_is_final(r->state);
}

/* Seed 1371: what could not be held back began when a place was free. */
Test(rollout_manager_ill, a_stop_of_which_the_pushes_cannot_be_told_begins_none)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = begin_two(w, 1);

        world_run_until_phase(w, &w->vms[0], P(STAGING));
        fall_ill(w, "OF held_back ON pushes");
        cr_assert(rollout_stop(w->catalogue, id, NULL));
        run_what_is_ready();
        fake_agent_go_on(w->vms[0].agent);
        world_run(w, has_ended, id);
        run_what_is_ready();
        cr_expect(eq(u32, world_count(w, "web-1 offered"), 0));
        recover(w);
        expect_held_back(w, id);
        cr_assert(rollout_resume(w->catalogue, id, NULL));
        world_run_until_ended(w, id);
        cr_expect(eq(int, world_operation_state(w, id), OPERATION_SUCCEEDED));
}

/* Seed 1428: the cancel was forgotten, and the next wave began. */
Test(rollout_manager_ill, a_cancel_that_cannot_be_stored_is_not_forgotten)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL;

        world_add_vm(w, "web-0", FALSE);
        world_add_vm(w, "web-1", FALSE);
        fake_agent_script(w->vms[0].agent)->hold_at = P(STAGING);
        id = begin(w, &(struct rollout_options){.batch = "1"});
        world_run_until_phase(w, &w->vms[0], P(STAGING));
        fall_ill(w, "ON rollouts");
        cr_assert(jobs_cancel(w->jobs, id, NULL));
        run_what_is_ready();
        recover(w);
        fake_agent_go_on(w->vms[0].agent);
        world_run_until_ended(w, id);
        cr_expect(eq(int, world_operation_state(w, id), OPERATION_CANCELLED));
        cr_expect(eq(u32, world_count(w, "web-1 offered"), 0));
}

/* Seed 331: the place of one that had failed was given away before the failure was on record. */
Test(rollout_manager_ill, a_failure_that_cannot_be_stored_leaves_its_place_to_nobody)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = begin_two(w, 1);

        fake_agent_script(w->vms[0].agent)->end = P(FAILED);
        world_run_until_phase(w, &w->vms[0], P(STAGING));
        fall_ill(w, "ON pushes WHEN NEW.vm = 'web-0' AND NEW.state = 'unplug'");
        fake_agent_go_on(w->vms[0].agent);
        world_run_until_phase(w, &w->vms[0], P(FAILED));
        run_what_is_ready();
        recover(w);
        expect_held_back(w, id);
}

/* Seed 15961: it was about to begin, and could not be recorded as begun, when another one failed. */
Test(rollout_manager_ill, what_is_not_on_record_as_begun_is_held_back)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL;

        fall_ill(w, "ON pushes WHEN NEW.vm = 'web-1' AND NEW.state = 'offer'");
        id = begin_two(w, 2);
        fake_agent_script(w->vms[0].agent)->end = P(FAILED);
        world_run_until_phase(w, &w->vms[0], P(STAGING));
        run_what_is_ready();
        fake_agent_go_on(w->vms[0].agent);
        world_run(w, has_ended, id);
        recover(w);
        expect_held_back(w, id);
}

/* Seed 19826: likewise, when it was aborted. */
Test(rollout_manager_ill, what_is_not_on_record_as_begun_is_cancelled_as_if_it_waited)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL;
        g_autoptr(PushRecord) r = NULL;

        fall_ill(w, "ON pushes WHEN NEW.vm = 'web-1' AND NEW.state = 'offer'");
        id = begin_two(w, 2);
        world_run_until_phase(w, &w->vms[0], P(STAGING));
        run_what_is_ready();
        cr_assert(rollout_abort(w->catalogue, id, FALSE, NULL));
        run_what_is_ready();
        recover(w);
        world_run_until_ended(w, id);
        world_expect_state(w, id, "web-1", PUSH_STATE_CANCELLED);
        r = world_record(w, id, "web-1");
        cr_expect(not(r->begun));
        cr_expect(eq(u32, world_count(w, "web-1 offered"), 0));
}
