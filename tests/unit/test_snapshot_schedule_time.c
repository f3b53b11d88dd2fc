/* tests/unit/test_snapshot_schedule_time.c - when the next snapshot is due. */
#include "host-service/snapshot/schedule_time.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>

TestSuite(schedule_time, .timeout = 60);

#define HOUR (G_TIME_SPAN_HOUR)
#define DAY  (G_TIME_SPAN_DAY)

static gint64 at(const char *iso)
{
        g_autoptr(GDateTime) t = g_date_time_new_from_iso8601(iso, NULL);

        cr_assert(t != NULL, "%s", iso);
        return g_date_time_to_unix(t) * G_USEC_PER_SEC;
}

struct next {
        char since[32], after[32], due[32];
        gint64 every_us;
        gint minute;
        char zone[24];
};

ParameterizedTestParameters(schedule_time, the_next_one)
{
        static struct next cases[] = {
                /* One period apart, from when it was set. */
                {"2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z", "2026-03-01T16:00:00Z", 6 * HOUR, -1, "UTC"},
                {"2026-03-01T10:00:00Z", "2026-03-01T15:59:59Z", "2026-03-01T16:00:00Z", 6 * HOUR, -1, "UTC"},
                {"2026-03-01T10:00:00Z", "2026-03-01T16:00:00Z", "2026-03-01T22:00:00Z", 6 * HOUR, -1, "UTC"},
                /* What was missed is one. */
                {"2026-03-01T10:00:00Z", "2026-03-09T12:00:00Z", "2026-03-09T16:00:00Z", 6 * HOUR, -1, "UTC"},
                /* A clock that was put back does no harm. */
                {"2026-03-01T10:00:00Z", "2026-02-01T10:00:00Z", "2026-03-01T16:00:00Z", 6 * HOUR, -1, "UTC"},
                /* At a time of day. */
                {"2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z", "2026-03-02T03:00:00Z", DAY, 180, "UTC"},
                {"2026-03-01T01:00:00Z", "2026-03-01T01:00:00Z", "2026-03-01T03:00:00Z", DAY, 180, "UTC"},
                {"2026-03-01T10:00:00Z", "2026-03-02T03:00:00Z", "2026-03-03T03:00:00Z", DAY, 180, "UTC"},
                {"2026-03-01T01:00:00Z", "2026-03-01T03:00:00Z", "2026-03-08T03:00:00Z", 7 * DAY, 180, "UTC"},
                {"2026-03-01T01:00:00Z", "2026-03-20T00:00:00Z", "2026-03-22T03:00:00Z", 7 * DAY, 180, "UTC"},
                /* Parts of a day, one of which is then. */
                {"2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z", "2026-03-01T15:00:00Z", 6 * HOUR, 180,
                 "UTC"},
                {"2026-03-01T10:00:00Z", "2026-03-01T21:00:00Z", "2026-03-02T03:00:00Z", 6 * HOUR, 1260,
                 "UTC"},
                /* By the wall: clocks are put forward at 01:00Z of March 29th, and back at 01:00Z of October
                   25th. 02:30 is left out of that night: it is when they are put forward. */
                {"2026-03-01T00:00:00Z", "2026-03-28T12:00:00Z", "2026-03-29T03:00:00Z", DAY, 300,
                 "Europe/Berlin"},
                {"2026-03-01T00:00:00Z", "2026-10-24T12:00:00Z", "2026-10-25T04:00:00Z", DAY, 300,
                 "Europe/Berlin"},
                {"2026-03-01T00:00:00Z", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z", DAY, 150,
                 "Europe/Berlin"},
        };
        return cr_make_param_array(struct next, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct next *n, schedule_time, the_next_one)
{
        g_autoptr(GTimeZone) zone = g_time_zone_new_identifier(n->zone);
        const ScheduleRecord r = {.every_us = n->every_us, .at_minute = n->minute, .since_us = at(n->since)};

        if (!zone)
                cr_skip("this machine does not know the time zone");
        cr_expect(eq(ptr, (void *)schedule_refusal(r.every_us, r.at_minute), NULL));
        cr_expect(eq(i64, schedule_next(&r, at(n->after), zone), at(n->due)), "after %s", n->after);
}

Test(schedule_time, periods_that_do_not_fit_a_day_are_refused)
{
        cr_expect(ne(ptr, (void *)schedule_refusal(5 * HOUR, 180), NULL));
        cr_expect(ne(ptr, (void *)schedule_refusal(36 * HOUR, 180), NULL));
        cr_expect(ne(ptr, (void *)schedule_refusal(G_USEC_PER_SEC, -1), NULL));
        cr_expect(ne(ptr, (void *)schedule_refusal(401 * DAY, -1), NULL));
        cr_expect(eq(ptr, (void *)schedule_refusal(5 * HOUR, -1), NULL));
}

Test(schedule_time, times_of_day)
{
        gint minute;

        cr_expect(schedule_parse_at("03:05", &minute));
        cr_expect(eq(int, minute, 185));
        cr_expect(schedule_parse_at("23:59", &minute));
        cr_expect(not(schedule_parse_at("24:00", &minute)));
        cr_expect(not(schedule_parse_at("3:00", &minute)));
        cr_expect(not(schedule_parse_at("03-00", &minute)));
        cr_expect(not(schedule_parse_at("03:60", &minute)));
}
