/* tests/unit/test_common_fault.c - faults happen where and when the environment says, and nowhere else. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <glib.h>
#include <signal.h>

#include "common/fault.h"
#include "tests/support/tempdir.h"

TestSuite(fault, .timeout = 20);

#ifdef MOULT_FAULT_POINTS
Test(fault, without_rules_nothing_happens)
{
        g_unsetenv("MOULT_FAULT");
        cr_expect(eq(int, fault_point("a"), 0));
        cr_expect(not(fault_skip("a")));
}

Test(fault, the_nth_passing_of_the_named_point_fails_once)
{
        g_setenv("MOULT_FAULT", "a:2=eio,b=enospc,c:*=skip", TRUE);
        cr_expect(eq(int, fault_point("a"), 0));
        cr_expect(eq(int, fault_point("a"), EIO));
        cr_expect(eq(int, fault_point("a"), 0));
        cr_expect(eq(int, fault_point("b"), ENOSPC));
        cr_expect(eq(int, fault_point("b"), 0));
        cr_expect(fault_skip("c"));
        cr_expect(fault_skip("c"));
        cr_expect(eq(int, fault_point("unnamed"), 0));
}

Test(fault, kill_is_immediate, .signal = SIGKILL)
{
        g_setenv("MOULT_FAULT", "here=kill", TRUE);
        fault_point("here");
}

Test(fault, a_rule_that_cannot_be_read_ends_the_program, .signal = SIGTRAP)
{
        g_setenv("MOULT_FAULT", "here=explode", TRUE);
        fault_point("here");
}

Test(fault, the_trace_lists_each_passing)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = tempdir_path(t, "trace"), *text = NULL;
        g_setenv("MOULT_FAULT_TRACE", path, TRUE);
        fault_point("one");
        fault_skip("two");
        fault_point("one");
        cr_assert(g_file_get_contents(path, &text, NULL, NULL));
        cr_expect(eq(str, text, "one\ntwo\none\n"));
}
#else
Test(fault, a_release_build_has_no_fault_points)
{
        g_setenv("MOULT_FAULT", "here=kill", TRUE);
        cr_expect(eq(int, fault_point("here"), 0));
        cr_expect(not(fault_skip("here")));
}
#endif
