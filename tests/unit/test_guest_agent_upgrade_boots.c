/* tests/unit/test_guest_agent_upgrade_boots.c - how often the machine was started with a release. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "guest-agent/upgrade/boots.h"

TestSuite(boots, .timeout = 20);

Test(boots, starts_are_counted_until_one_was_good)
{
        gboolean good = TRUE;
        cr_assert(eq(u32, boots_count("", &good), 0));
        cr_assert(not(good));
        cr_assert(eq(u32, boots_count("begun a\nbegun b\n", &good), 2));
        cr_assert(not(good));
        cr_assert(eq(u32, boots_count("begun a\ngood a\n", &good), 1));
        cr_assert(good);
}

Test(boots, a_torn_line_does_not_count)
{
        gboolean good;
        cr_assert(eq(u32, boots_count("begun a\nbegun", &good), 1));
        cr_assert(eq(u32, boots_count("begun a\ngood", &good), 1));
        cr_assert(not(good));
        cr_assert(eq(u32, boots_count("noise\n\nbegun a\n", &good), 1));
}
