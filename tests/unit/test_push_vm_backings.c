/* tests/unit/test_push_vm_backings.c - pushes to VMs that share a backing file, with fake hypervisors and
 * guests. */
#include "host-service/push/vm_backings.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/support/push_world.h"

TestSuite(vm_backings, .timeout = 120);

#define MIB      (1024u * 1024u)
#define P(phase) MOULT__TRANSACTION_PHASE__PHASE_##phase

static const char *const golden[] = {"/golden/web.qcow2", "/golden/base.qcow2", NULL};
static const char *const other[] = {"/golden/db.qcow2", "/golden/base.qcow2", NULL};
static const char *const alone[] = {NULL};

static World *world_with_limit(guint per_backing)
{
        World *w = world_new(MIB);

        world_kill_daemon(w);
        w->config.concurrent = 8;
        w->config.per_backing = per_backing;
        world_start_daemon(w);
        return w;
}

/* One whose guest stays in the middle of its push. */
static struct world_vm *add(World *w, const char *name, const char *const *backing)
{
        struct world_vm *vm = world_add_vm(w, name, TRUE);

        fake_agent_script(vm->agent)->hold_at = P(STAGING);
        fake_qmp_script(vm->qmp)->backing = backing;
        return vm;
}

static void settle(void)
{
        while (g_main_context_iteration(NULL, FALSE))
                ;
}

static gboolean has_begun(struct world_vm *vm)
{
        return fake_agent_phase(vm->agent) != P(NONE);
}

static guint count_begun(struct world_vm *const *vms, guint n)
{
        guint begun = 0;

        for (guint i = 0; i < n; i++)
                begun += has_begun(vms[i]) ? 1 : 0;
        return begun;
}

struct begun {
        struct world_vm *const *vms;
        guint n, than;
};

static gboolean more_than(World *w, gpointer user)
{
        const struct begun *b = user;

        return count_begun(b->vms, b->n) > b->than;
}

/* db stands on the base of the other two, below an image of its own. */
Test(vm_backings, clones_of_one_image_take_turns_and_others_do_not_wait_for_them)
{
        static const char *const names[] = {"web-1", "web-2",     "db",        "own-1",
                                            "own-2", "unknown-1", "unknown-2", NULL};
        g_autoptr(World) w = world_with_limit(1);
        struct world_vm *vms[7];
        g_autofree char *op = NULL;

        for (guint i = 0; names[i]; i++)
                vms[i] = add(w, names[i], i < 2 ? golden : i == 2 ? other : i < 5 ? alone : NULL);
        op = world_push(w, &(struct push_options){0}, names);
        for (guint i = 3; i < 7; i++)
                world_run_until_phase(w, vms[i], P(STAGING));
        for (guint turn = 0; turn < 3; turn++) { /* in the order in which QEMU answers */
                world_run(w, more_than, &(struct begun){vms, 3, turn});
                settle();
                cr_expect(eq(u32, count_begun(vms, 3), turn + 1));
                for (guint i = 0; i < 3; i++)
                        if (fake_agent_phase(vms[i]->agent) == P(STAGING))
                                fake_agent_go_on(vms[i]->agent);
        }
        for (guint i = 3; i < 7; i++)
                fake_agent_go_on(vms[i]->agent);
        world_run_until_ended(w, op);
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_SUCCEEDED));
}

Test(vm_backings, without_a_limit_nobody_is_asked)
{
        static const char *const names[] = {"web-1", "web-2", NULL};
        g_autoptr(World) w = world_with_limit(0);
        struct world_vm *a = add(w, names[0], golden), *b = add(w, names[1], golden);
        g_autofree char *op = world_push(w, &(struct push_options){0}, names);

        world_run_until_phase(w, a, P(STAGING));
        world_run_until_phase(w, b, P(STAGING));
        fake_agent_go_on(a->agent);
        fake_agent_go_on(b->agent);
        world_run_until_ended(w, op);
        cr_expect(eq(u32, world_count(w, "web-1 asked for disks"), 0));
}

Test(vm_backings, what_an_earlier_daemon_began_counts_for_those_that_come)
{
        static const char *const first[] = {"web-1", NULL}, *const second[] = {"web-2", NULL};
        g_autoptr(World) w = world_with_limit(1);
        struct world_vm *a = add(w, "web-1", golden), *b = add(w, "web-2", golden);
        g_autofree char *op = world_push(w, &(struct push_options){0}, first), *next = NULL;

        world_run_until_phase(w, a, P(STAGING));
        world_run_until_state(w, op, PUSH_STATE_STAGE);
        world_kill_daemon(w);
        world_start_daemon(w);
        world_run_until_logged(w, "web-1 asked for disks");
        next = world_push(w, &(struct push_options){0}, second);
        world_run_until_logged(w, "web-2 asked for disks");
        settle();
        cr_expect(not(has_begun(b)));
        fake_agent_go_on(a->agent);
        world_run_until_phase(w, b, P(STAGING));
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        fake_agent_go_on(b->agent);
        world_run_until_ended(w, next);
        world_expect_state(w, next, "web-2", PUSH_STATE_DONE);
}

/* Its monitor is held by somebody else, or it hangs: the push must not. */
Test(vm_backings, a_hypervisor_that_is_gone_keeps_no_push_waiting)
{
        g_autoptr(World) w = world_with_limit(1);
        struct world_vm *vm = add(w, "web-1", golden);
        g_autofree char *op = NULL;

        fake_agent_script(vm->agent)->hold_at = 0;
        g_clear_pointer(&vm->qmp, fake_qmp_free);
        op = world_push_over_serial(w, "web-1");
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
}
