/* tests/unit/test_snapshot_vm_turns.c - one at a time changes a VM's disks. */
#include "host-service/snapshot/vm_turns.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/support/host_world.h"

TestSuite(snapshot_vm_turns, .timeout = 60);

static GString *order;

static void on_turn(gpointer user)
{
        g_string_append(order, user);
}

static char one[] = "1", two[] = "2", three[] = "3", other[] = "o";

Test(snapshot_vm_turns, who_comes_later_waits_and_hears_for_what)
{
        g_autoptr(HostWorld) w = host_world_new();
        VmTurns *t = vm_turns_new(&w->env);

        order = g_string_new(NULL);
        cr_expect(eq(ptr, (void *)vm_turns_ask(t, "a", "a snapshot is being taken", on_turn, one), NULL));
        cr_expect(eq(str, (char *)vm_turns_ask(t, "a", "history is being merged", on_turn, two),
                     (char *)"a snapshot is being taken"));
        vm_turns_ask(t, "a", "the disks are being rolled back", on_turn, three);
        cr_expect(eq(ptr, (void *)vm_turns_ask(t, "b", "a snapshot is being taken", on_turn, other), NULL),
                  "another VM's disks are others");
        cr_expect(eq(str, order->str, (char *)""), "not from inside");
        host_world_settle(w);
        cr_expect(eq(str, order->str, (char *)"1o"));
        vm_turns_leave(t, one);
        vm_turns_leave(t, one);
        host_world_settle(w);
        cr_expect(eq(str, order->str, (char *)"1o2"));
        vm_turns_leave(t, two);
        host_world_settle(w);
        cr_expect(eq(str, order->str, (char *)"1o23"));
        g_string_free(order, TRUE);
        vm_turns_free(t);
}

Test(snapshot_vm_turns, who_does_not_want_to_wait_any_more_is_passed_over)
{
        g_autoptr(HostWorld) w = host_world_new();
        VmTurns *t = vm_turns_new(&w->env);

        order = g_string_new(NULL);
        vm_turns_ask(t, "a", "a snapshot is being taken", on_turn, one);
        vm_turns_ask(t, "a", "a snapshot is being taken", on_turn, two);
        vm_turns_ask(t, "a", "a snapshot is being taken", on_turn, three);
        host_world_settle(w);
        vm_turns_leave(t, two);
        vm_turns_leave(t, one);
        host_world_settle(w);
        cr_expect(eq(str, order->str, (char *)"13"));
        g_string_free(order, TRUE);
        vm_turns_free(t);
}
