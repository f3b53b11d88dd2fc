/* tests/unit/test_guests_budget.c - the token bucket. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "host-service/guests/budget.h"

TestSuite(budget, .timeout = 60);

Test(budget, allows_a_burst_then_the_rate)
{
        struct budget b = budget_new(10, 100);
        gint64 now = 1000;

        cr_expect(budget_take(&b, 100, now));
        cr_expect(not(budget_take(&b, 1, now)));
        cr_expect(not(budget_take(&b, 1, now + G_USEC_PER_SEC / 20)));
        cr_expect(budget_take(&b, 1, now + G_USEC_PER_SEC / 10));
        cr_expect(not(budget_take(&b, 11, now + G_USEC_PER_SEC)));
        cr_expect(budget_take(&b, 9, now + G_USEC_PER_SEC));
}

Test(budget, questions_in_quick_succession_do_not_lose_fractions_for_ever)
{
        struct budget b = budget_new(1, 1);
        gint64 now = 1;
        int taken = 0;

        cr_expect(budget_take(&b, 1, now));
        for (int i = 0; i < 10 * 100; i++) /* 10 s, asked every 10 ms */
                taken += budget_take(&b, 1, now += 10000);
        cr_expect(eq(int, taken, 10));
}

Test(budget, never_holds_more_than_a_burst_and_survives_a_long_sleep)
{
        struct budget b = budget_new(1000000, 50);

        cr_expect(budget_take(&b, 50, 1));
        cr_expect(not(budget_take(&b, 51, G_MAXINT64 / 2)));
        cr_expect(budget_take(&b, 50, G_MAXINT64 / 2));
}

Test(budget, a_clock_that_stands_still_gives_nothing)
{
        struct budget b = budget_new(1000, 1);

        cr_expect(budget_take(&b, 1, 77));
        cr_expect(not(budget_take(&b, 1, 77)));
        cr_expect(not(budget_take(&b, 1, 76)));
}
