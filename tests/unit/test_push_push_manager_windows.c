/* tests/unit/test_push_push_manager_windows.c - the window of a push in its whole life: plugged, used again,
 * left by somebody, taken off. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>
#include <string.h>

#include "tests/support/push_world.h"

TestSuite(push_manager_windows, .timeout = 110);

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x
#define MIB  (1024u * 1024u)

Test(push_manager_windows, plugs_a_window_before_the_offer_and_takes_it_off_again)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = world_push_one(w, "web-1");
        Moult__SourceKind sources[4];

        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, fake_agent_offered(vm->agent, sources), 2));
        cr_expect(eq(int, sources[0], MOULT__SOURCE_KIND__SOURCE_IVSHMEM));
        cr_expect(eq(int, sources[1], MOULT__SOURCE_KIND__SOURCE_SERIAL));
        cr_expect(lt(int, world_logged(w, "web-1 device_add moult-window-0"),
                     world_logged(w, "web-1 offered")));
        cr_expect(
                gt(int, world_logged(w, "web-1 device_del moult-window-0"), world_logged(w, "web-1 staged")));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

Test(push_manager_windows, the_window_of_an_instant_push_stays_until_all_is_copied)
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
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(ge(int, world_logged(w, "web-1 device_del moult-window-0"), 0));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

static gboolean is_let_go(World *w, gpointer user)
{
        return !fake_qmp_is_held(((struct world_vm *)user)->qmp);
}

Test(push_manager_windows, the_monitor_is_let_go_after_the_push)
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

ParameterizedTestParameters(push_manager_windows, goes_on_without_a_window)
{
        static struct no_window cases[] = {
                {{.ports = 0, .no_ivshmem = TRUE}, ""}, /* a machine without root ports that takes nothing */
                {{.ports = 2, .no_ivshmem = TRUE}, ""}, /* a QEMU without ivshmem */
                {{.ports = 2, .close_instead = TRUE}, ""}, {{.ports = 2}, "nonsense"},
                {{.ports = 2}, "{\"return\":[[[[[[[["},
        };
        return cr_make_param_array(struct no_window, cases, G_N_ELEMENTS(cases));
}

ParameterizedTest(struct no_window *c, push_manager_windows, goes_on_without_a_window)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;
        Moult__SourceKind sources[4];

        *fake_qmp_script(vm->qmp) = c->script;
        fake_qmp_script(vm->qmp)->say_instead = c->instead[0] ? c->instead : NULL;
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, fake_agent_offered(vm->agent, sources), 1));
        cr_expect(eq(int, sources[0], MOULT__SOURCE_KIND__SOURCE_SERIAL));
}

Test(push_manager_windows, a_forced_window_that_cannot_be_had_fails_the_push_with_the_reason)
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

Test(push_manager_windows, a_window_that_an_earlier_daemon_left_is_taken_off_first)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        fake_qmp_leave(vm->qmp, 3, "/somewhere/old.moult");
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(lt(int, world_logged(w, "web-1 object-del moult-pack-3"),
                     world_logged(w, "web-1 object-add moult-pack-0")));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

Test(push_manager_windows, the_same_pack_still_plugged_is_used_again)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *path = w->env->store->path(w->env->self, w->release->file);
        g_autofree char *op = NULL;

        fake_qmp_leave(vm->qmp, 1, path);
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(int, world_logged(w, "web-1 object-add moult-pack-0"), -1));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

Test(push_manager_windows, memory_that_is_still_in_use_is_asked_for_again)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        fake_qmp_script(vm->qmp)->in_use = 3;
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, world_count(w, "web-1 object-del moult-pack-0"), 4));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

static gboolean is_mapped(World *w)
{
        const struct guest_view *view = push_manager_guest_view(w->manager);
        g_autofree char *vm = view->ops->mapped_by(view->self, w->release->digest);

        return vm != NULL;
}

/* --- what an ended push left ---------------------------------------------------------------------------- */

/* An ended push whose window is still plugged, in slot 3, by the row and in QEMU. */
static void leave_window(World *w, struct world_vm *vm)
{
        g_autofree char *op = world_push_one(w, vm->name);

        world_run_until_ended(w, op);
        world_run_sql(w, "UPDATE pushes SET plug = 'moult-window'");
        fake_qmp_leave(vm->qmp, 3, "/somewhere/old.moult");
}

static gboolean is_taken_off(World *w, gpointer user)
{
        g_autoptr(GPtrArray) left = catalogue_push_left_plugged(w->catalogue, NULL);

        return left->len == 0 && fake_qmp_objects(((struct world_vm *)user)->qmp) == 0;
}

Test(push_manager_windows, a_window_is_not_forgotten_over_a_later_push_without_one)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);
        g_autofree char *op = NULL;

        leave_window(w, vm);
        op = world_push_over_serial(w, "web-1");
        world_run_until_ended(w, op);
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 1), "this daemon does not know of it");
        world_kill_daemon(w);
        world_start_daemon(w);
        cr_expect(is_mapped(w));
        world_run(w, is_taken_off, vm);
        cr_expect(not(is_mapped(w)));
}

Test(push_manager_windows, a_window_that_could_not_be_taken_off_is_tried_again_after_the_next_push)
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
        op = world_push_over_serial(w, "web-1");
        world_run_until_ended(w, op);
        world_run(w, is_taken_off, vm);
        cr_expect(not(is_mapped(w)));
}

/* The socket's file stays when QEMU is killed, and nobody listens there any more. */
Test(push_manager_windows, a_killed_vm_has_no_window)
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

ParameterizedTestParameters(push_manager_windows, what_a_given_up_push_left_keeps_no_later_one_waiting)
{
        static gboolean rollback[] = {FALSE, TRUE};

        return cr_make_param_array(gboolean, rollback, 2);
}

/* The guest is there and says nothing; given up, it stays where it was; the next push has it forget that. */
ParameterizedTest(gboolean *rollback, push_manager_windows,
                  what_a_given_up_push_left_keeps_no_later_one_waiting)
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
        world_run_until_state(w, first, PUSH_STATE_STAGE);
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
        world_expect_state(w, second, "web-1", PUSH_STATE_DONE);
        after = world_record(w, first, "web-1");
        cr_expect(not(after->held));
        cr_expect(eq(int, after->state, PUSH_STATE_FAILED));
}

Test(push_manager_windows, a_pack_that_may_be_plugged_is_said_to_be_mapped)
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
