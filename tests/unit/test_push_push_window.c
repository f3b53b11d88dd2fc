/* tests/unit/test_push_push_window.c - which kind of window a push gives its guest: whole pushes in one
 * process, with fake guests and fake monitors. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "tests/support/push_world.h"

TestSuite(push_window, .timeout = 110);

#define MIB (1024u * 1024u)

static void expect_done(World *w, const char *operation)
{
        g_autoptr(PushRecord) r = world_record(w, operation, "web-1");

        cr_expect(eq(int, r->state, PUSH_STATE_DONE), "%s: %s", push_state_name(r->state),
                  r->text ? r->text : "");
}

static struct world_vm *locked_down_vm(World *w)
{
        struct world_vm *vm = world_add_vm(w, "web-1", TRUE);

        fake_agent_script(vm->agent)->knows_pmem = TRUE;
        fake_agent_script(vm->agent)->locked_down = TRUE;
        fake_qmp_script(vm->qmp)->pmem_ports = 1;
        return vm;
}

Test(push_window, a_guest_that_cannot_map_the_window_gets_persistent_memory)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = locked_down_vm(w);
        g_autofree char *op = world_push_one(w, "web-1");
        g_autoptr(PushRecord) r = NULL;

        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_DONE), "%s", r->text);
        cr_expect(eq(int, r->source, MOULT__SOURCE_KIND__SOURCE_PMEM));
        cr_expect(lt(int, world_logged(w, "web-1 offered"),
                     world_logged(w, "web-1 device_add moult-window-1")));
        cr_expect(lt(int, world_logged(w, "web-1 device_add moult-window-1"),
                     world_logged(w, "web-1 sources changed")));
        cr_expect(eq(ptr, (void *)fake_qmp_window(vm->qmp, 0), NULL), "what was of no use is taken off");
        cr_expect(fake_qmp_is_pmem(vm->qmp, 1));
        cr_expect(ne(ptr, r->plug, NULL), "it is on record that the pack may still be mapped");
        cr_expect(eq(u32, world_count(w, "web-1 sources changed"), 1));
}

Test(push_window, a_guest_that_waits_for_persistent_memory_hears_that_there_will_be_none)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = locked_down_vm(w);
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;
        Moult__SourceKind sources[4];
        guint n;

        fake_qmp_script(vm->qmp)->no_maxmem = TRUE;
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_DONE), "%s", r->text);
        cr_expect(eq(int, world_logged(w, "web-1 sources changed") > 0, TRUE));
        n = fake_agent_offered(vm->agent, sources);
        for (guint i = 0; i < n; i++)
                cr_expect(ne(int, sources[i], MOULT__SOURCE_KIND__SOURCE_PMEM));
        cr_expect(eq(int, sources[n - 1], MOULT__SOURCE_KIND__SOURCE_SERIAL));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
        cr_expect(eq(ptr, r->plug, NULL));
}

Test(push_window, an_agent_that_does_not_know_persistent_memory_is_not_offered_it)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = locked_down_vm(w);
        g_autofree char *op = NULL;
        Moult__SourceKind sources[4];

        fake_agent_script(vm->agent)->knows_pmem = FALSE;
        fake_qmp_script(vm->qmp)->no_ivshmem = TRUE;
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        expect_done(w, op);
        cr_expect(eq(u32, fake_agent_offered(vm->agent, sources), 1));
        cr_expect(eq(int, sources[0], MOULT__SOURCE_KIND__SOURCE_SERIAL));
}

Test(push_window, a_qemu_without_ivshmem_gets_persistent_memory_before_the_offer)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = locked_down_vm(w);
        g_autofree char *op = NULL;
        Moult__SourceKind sources[4];

        fake_qmp_script(vm->qmp)->no_ivshmem = TRUE;
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        expect_done(w, op);
        cr_expect(eq(u32, fake_agent_offered(vm->agent, sources), 2));
        cr_expect(eq(int, sources[0], MOULT__SOURCE_KIND__SOURCE_PMEM));
        cr_expect(eq(int, world_logged(w, "web-1 sources changed"), -1));
        cr_expect(fake_qmp_is_pmem(vm->qmp, 0));
}

Test(push_window, persistent_memory_that_was_asked_for_is_the_only_source)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = locked_down_vm(w);
        const char *vms[] = {"web-1", NULL};
        struct push_options o = {.transport = PUSH_TRANSPORT_PMEM};
        g_autofree char *op = world_push(w, &o, vms);
        Moult__SourceKind sources[4];

        world_run_until_ended(w, op);
        expect_done(w, op);
        cr_expect(eq(u32, fake_agent_offered(vm->agent, sources), 1));
        cr_expect(eq(int, sources[0], MOULT__SOURCE_KIND__SOURCE_PMEM));
}

Test(push_window, an_agent_that_does_not_know_persistent_memory_cannot_be_forced_to_it)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = locked_down_vm(w);
        const char *vms[] = {"web-1", NULL};
        struct push_options o = {.transport = PUSH_TRANSPORT_PMEM};
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;

        fake_agent_script(vm->agent)->knows_pmem = FALSE;
        op = world_push(w, &o, vms);
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_FAILED));
        cr_expect(ne(ptr, strstr(r->text, "cannot read from virtio-pmem"), NULL), "%s", r->text);
        cr_expect(eq(int, world_logged(w, "web-1 offered"), -1));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 0));
}

static gboolean is_mapped(World *w)
{
        const struct guest_view *view = push_manager_guest_view(w->manager);
        g_autofree char *vm = view->ops->mapped_by(view->self, w->release->digest);

        return vm != NULL;
}

static gboolean is_forgotten(World *w, gpointer user)
{
        return !is_mapped(w);
}

static gboolean is_known(World *w, gpointer user)
{
        return is_mapped(w);
}

Test(push_window, persistent_memory_is_on_record_until_the_vm_was_powered_off)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = locked_down_vm(w);
        g_autofree char *path = tempdir_path(w->dir, "web-1.q"), *op = world_push_one(w, "web-1");

        world_run_until_ended(w, op);
        expect_done(w, op);
        cr_expect(is_mapped(w), "QEMU has the file open");
        world_kill_daemon(w);
        world_start_daemon(w);
        world_run(w, is_known, vm);
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 1));
        /* Another QEMU, with nothing of ours in it. */
        world_kill_daemon(w);
        fake_qmp_free(vm->qmp);
        vm->qmp = fake_qmp_new("web-1", path, w->log);
        world_start_daemon(w);
        world_run(w, is_forgotten, vm);
}

Test(push_window, another_push_is_not_charged_with_what_stays_of_an_earlier_one)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = locked_down_vm(w);
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;

        fake_agent_script(vm->agent)->locked_down = FALSE;
        fake_qmp_leave(vm->qmp, 3, "/somewhere/old.moult");
        fake_qmp_make_pmem(vm->qmp, 3);
        op = world_push_one(w, "web-1");
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_DONE), "%s", r->text);
        cr_expect(eq(int, r->source, MOULT__SOURCE_KIND__SOURCE_IVSHMEM));
        cr_expect(eq(ptr, r->plug, NULL), "its own window is gone");
        cr_expect(not(is_mapped(w)));
        cr_expect(eq(u32, fake_qmp_objects(vm->qmp), 1));
}

Test(push_window, goes_on_however_often_the_daemon_is_killed)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = locked_down_vm(w);
        g_autofree char *op = world_push_one(w, "web-1");

        for (guint lives = 0; lives < 60 && !operation_state_is_final(world_operation_state(w, op));
             lives++) {
                for (guint i = 0; i < 5 + lives; i++)
                        g_main_context_iteration(NULL, FALSE);
                world_kill_daemon(w);
                world_start_daemon(w);
        }
        world_run_until_ended(w, op);
        expect_done(w, op);
        cr_expect(eq(u32, fake_agent_commits(vm->agent), 1));
        cr_expect(eq(u32, world_count(w, "web-1 offered"), 1));
        cr_expect(le(u32, fake_qmp_objects(vm->qmp), 1), "nothing but one piece of persistent memory");
}
