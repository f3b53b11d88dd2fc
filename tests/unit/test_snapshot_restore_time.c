/* tests/unit/test_snapshot_restore_time.c - times of restore points, as operators say them. */
#include "host-service/snapshot/restore_time.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(restore_time, .timeout = 10);

#define NOW  (G_GINT64_CONSTANT(1764446400) * G_USEC_PER_SEC) /* 2025-11-29 20:00:00 UTC */
#define NONE G_MININT64

/* Seconds from NOW; the local time zone is two hours ahead. */
static gint64 from_now(const char *text)
{
        g_autoptr(GTimeZone) local = g_time_zone_new_offset(7200);
        gint64 at;

        return restore_time_parse(text, NOW, local, &at) ? (at - NOW) / G_USEC_PER_SEC : NONE;
}

Test(restore_time, a_while_ago)
{
        cr_expect(eq(i64, from_now("0s"), 0));
        cr_expect(eq(i64, from_now("90s ago"), -90));
        cr_expect(eq(i64, from_now("5m"), -300));
        cr_expect(eq(i64, from_now("2h ago"), -7200));
        cr_expect(eq(i64, from_now("2 h ago"), -7200));
        cr_expect(eq(i64, from_now("1d"), -86400));
        cr_expect(eq(i64, from_now("2w ago"), -14 * 86400));
}

Test(restore_time, a_time_of_day_is_local_unless_it_says_where)
{
        cr_expect(eq(i64, from_now("2025-11-29T20:00:00Z"), 0));
        cr_expect(eq(i64, from_now("2025-11-29T20:00:00.000001Z"), 0));
        cr_expect(eq(i64, from_now("2025-11-29 21:00:00+01:00"), 0));
        cr_expect(eq(i64, from_now("2025-11-29T22:00:00"), 0));
        cr_expect(eq(i64, from_now("2025-11-29 22:01"), 60));
        cr_expect(eq(i64, from_now("2025-11-29"), 2 * 3600 - 1), "the end of the day");
}

Test(restore_time, what_is_no_time)
{
        static const char *const none[] = {"",
                                           "ago",
                                           "2x ago",
                                           "-2h ago",
                                           "2h before",
                                           "two",
                                           "2025-13-01",
                                           "20:00",
                                           "2025-11-29T",
                                           "2h agox",
                                           "99999999999999999999d",
                                           "2h  ago",
                                           "before-upgrade",
                                           "2025-11-29 25:00"};

        for (gsize i = 0; i < G_N_ELEMENTS(none); i++)
                cr_expect(eq(i64, from_now(none[i]), NONE), "%s", none[i]);
}

Test(restore_time, is_told_in_the_same_zone)
{
        g_autoptr(GTimeZone) local = g_time_zone_new_offset(7200);
        g_autofree char *text = restore_time_text(NOW, local);

        cr_expect(eq(str, text, "2025-11-29 22:00:00+02:00"));
}
