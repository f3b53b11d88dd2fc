/* tests/unit/test_push_push_manager_cancel.c - a push is cancelled at every moment, also when the daemon or
 * its disk is not up to it. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "tests/support/push_world.h"

TestSuite(push_manager_cancel, .timeout = 110);

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x
#define MIB  (1024u * 1024u)

Test(push_manager_cancel, a_cancelled_push_is_aborted_in_the_guest)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        fake_agent_script(vm->agent)->hold_at = P(STAGING);
        op = world_push_one(w, "web-1");
        world_run_until_phase(w, vm, P(STAGING));
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_CANCELLED);
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_CANCELLED));
        cr_expect(eq(int, fake_agent_phase(vm->agent), P(FAILED)));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

/* The taking off is asked for while the plugging has not ended: each must hear of its own end only. */
Test(push_manager_cancel, a_push_manager_cancelled_while_its_window_is_being_plugged)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        fake_qmp_script(vm->qmp)->hold_device = TRUE;
        op = world_push_one(w, "web-1");
        world_run_until_logged(w, "web-1 device_add moult-window-0");
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        world_run_until_state(w, op, PUSH_STATE_UNPLUG);
        fake_qmp_go_on(vm->qmp);
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_CANCELLED);
        while (g_main_context_iteration(NULL, FALSE))
                ;
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0), "what was plugged in the end is taken off");
        cr_expect(eq(int, world_logged(w, "web-1 offered"), -1));
}

/* The disk under the catalogue: another connection makes every new state of a push fail. */
static void make_disk(World *w, gboolean full)
{
        world_run_sql(w, full ? "CREATE TRIGGER full BEFORE UPDATE ON pushes WHEN NEW.state <> OLD.state"
                                " BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
                              : "DROP TRIGGER full");
}

/* A cancel that comes too late must not take the place of what waits for the disk. */
Test(push_manager_cancel, a_late_cancel_while_the_disk_is_full_loses_nothing)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        op = world_push_one(w, "web-1");
        world_run_until_state(w, op, PUSH_STATE_CONFIRM);
        make_disk(w, TRUE);
        world_run_until_phase(w, vm, P(COMMITTED));
        while (g_main_context_iteration(NULL, FALSE))
                ;
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        make_disk(w, FALSE);
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

Test(push_manager_cancel, a_cancel_outlives_the_daemon)
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
        world_expect_state(w, op, "web-1", PUSH_STATE_CANCELLED);
        cr_expect(eq(u32, fake_agent_commits(vm->agent), 0));
}

Test(push_manager_cancel, a_cancel_before_the_confirmation_rolls_back)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = NULL;

        fake_agent_script(vm->agent)->hold_at = P(COMMITTING);
        op = world_push_one(w, "web-1");
        world_run_until_phase(w, vm, P(COMMITTING));
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_CANCELLED);
        cr_expect(eq(int, fake_agent_phase(vm->agent), P(ROLLED_BACK)));
        cr_expect(eq(int, world_logged(w, "web-1 committed"), -1));
}

Test(push_manager_cancel, a_cancel_when_the_guest_has_switched_is_told_as_rolled_back)
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
        world_expect_state(w, op, "web-1", PUSH_STATE_ROLLED_BACK);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, (int)r->error, MOULT_ERROR_CANCELLED));
}

Test(push_manager_cancel, a_cancel_after_the_confirmation_comes_too_late)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        op = world_push_one(w, "web-1");
        world_run_until_phase(w, vm, P(COMMITTED));
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_SUCCEEDED));
}
