/* tests/unit/test_push_push_manager_ill.c - operations while the catalogue cannot be read or written: they
 * wait, and go on when it can. What the simulation found, one by one. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/support/push_world.h"

TestSuite(push_manager_ill, .timeout = 110);

#define MIB (1024u * 1024u)

/* Everything that is ready has had its try, nothing that waits for a timer. */
static void run_what_is_ready(void)
{
        while (g_main_context_iteration(NULL, FALSE))
                ;
}

static void expect_done(World *w, const char *op)
{
        world_run_until_ended(w, op);
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_SUCCEEDED));
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, fake_agent_commits(w->vms[0].agent), 1));
}

/* Seed 566: it failed, and its pushes stayed queued for ever. */
Test(push_manager_ill, an_operation_whose_row_cannot_be_written_has_not_failed)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *op = NULL;

        world_add_vm(w, "web-1", FALSE);
        world_run_sql(w,
                      "CREATE TRIGGER ill BEFORE UPDATE ON operations BEGIN SELECT RAISE(ABORT, 'ill'); END");
        op = world_push_one(w, "web-1");
        run_what_is_ready();
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_QUEUED));
        world_expect_state(w, op, "web-1", PUSH_STATE_QUEUED);
        world_run_sql(w, "DROP TRIGGER ill");
        expect_done(w, op);
}

/* Seed 1201: it stayed queued until the next start. */
Test(push_manager_ill, an_operation_whose_row_cannot_be_read_is_looked_for_again)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *op = NULL;

        world_add_vm(w, "web-1", FALSE);
        op = world_push_one(w, "web-1");
        world_run_sql(w, "ALTER TABLE operations RENAME TO away");
        run_what_is_ready();
        world_run_sql(w, "ALTER TABLE away RENAME TO operations");
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_QUEUED));
        expect_done(w, op);
}

Test(push_manager_ill, an_operation_whose_pushes_cannot_be_read_is_looked_at_again)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *op = NULL;

        world_add_vm(w, "web-1", FALSE);
        op = world_push_one(w, "web-1");
        world_run_sql(w, "ALTER TABLE pushes RENAME TO away");
        run_what_is_ready();
        world_run_sql(w, "ALTER TABLE away RENAME TO pushes");
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_RUNNING));
        expect_done(w, op);
}

static gboolean runs_demo(World *w, gpointer user)
{
        g_autoptr(VmRecord) vm = catalogue_vm_get(w->catalogue, "web-1", NULL);

        return g_strcmp0(vm->last_release, "demo 1.0") == 0;
}

static gboolean has_told_twice(World *w, gpointer user)
{
        return world_count(w, "web-1 tells its history") >= 2;
}

/* Seeds 452 and 585: only the session after this one would have told it. */
Test(push_manager_ill, what_a_guest_runs_is_asked_again_if_it_could_not_be_written)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *op = NULL;

        world_add_vm(w, "web-1", FALSE);
        op = world_push_one(w, "web-1");
        expect_done(w, op);
        world_run_sql(w, "UPDATE vms SET last_release = NULL;"
                         "CREATE TRIGGER ill BEFORE UPDATE OF last_release ON vms BEGIN"
                         " SELECT RAISE(ABORT, 'ill'); END");
        fake_agent_cut(w->vms[0].agent);
        world_run(w, has_told_twice, NULL); /* after the push, and in the new session */
        run_what_is_ready();
        cr_expect(not(runs_demo(w, NULL)));
        world_run_sql(w, "DROP TRIGGER ill");
        world_run(w, runs_demo, NULL);
        cr_expect(eq(u32, world_count(w, "web-1 connected"), 2), "in the same session");
}
