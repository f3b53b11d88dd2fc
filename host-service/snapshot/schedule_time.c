/* host-service/snapshot/schedule_time.c - periods, and times of day. */
#include "host-service/snapshot/schedule_time.h"

#include <stdio.h>
#include <string.h>

#define DAY_US     (G_TIME_SPAN_DAY)
#define DAY_MINUTE 1440

const char *schedule_refusal(gint64 every_us, gint at_minute)
{
        if (every_us < G_GINT64_CONSTANT(1) * SCHEDULE_EVERY_MIN_S * G_USEC_PER_SEC ||
            every_us > G_GINT64_CONSTANT(1) * SCHEDULE_EVERY_MAX_S * G_USEC_PER_SEC)
                return "a period has from 1 minute to 400 days";
        if (at_minute < 0)
                return NULL;
        if (every_us % DAY_US == 0 || (DAY_US % every_us == 0 && every_us % G_TIME_SPAN_MINUTE == 0))
                return NULL;
        return "with a time of day the period has to be whole days, or whole minutes that make up a day";
}

gboolean schedule_parse_at(const char *text, gint *ret_minute)
{
        int hour, minute;

        if (strlen(text) != 5 || text[2] != ':' || !g_ascii_isdigit(text[0]) || !g_ascii_isdigit(text[1]) ||
            !g_ascii_isdigit(text[3]) || !g_ascii_isdigit(text[4]))
                return FALSE;
        hour = (text[0] - '0') * 10 + text[1] - '0';
        minute = (text[3] - '0') * 10 + text[4] - '0';
        *ret_minute = hour * 60 + minute;
        return hour < 24 && minute < 60;
}

static GDateTime *local(gint64 time_us, GTimeZone *zone)
{
        g_autoptr(GDateTime) utc = g_date_time_new_from_unix_utc(time_us / G_USEC_PER_SEC);

        return g_date_time_to_timezone(utc, zone);
}

/* That minute of the local day @day; one that is left out, since clocks are put forward, is when they are. */
static gint64 minute_of(const GDate *day, gint minute, GTimeZone *zone)
{
        g_autoptr(GDateTime) t = g_date_time_new(zone, g_date_get_year(day), (gint)g_date_get_month(day),
                                                 g_date_get_day(day), minute / 60, minute % 60, 0);

        return g_date_time_to_unix(t) * G_USEC_PER_SEC;
}

static void date_of(GDate *ret, gint64 time_us, GTimeZone *zone)
{
        g_autoptr(GDateTime) t = local(time_us, zone);

        g_date_clear(ret, 1);
        g_date_set_dmy(ret, (GDateDay)g_date_time_get_day_of_month(t), (GDateMonth)g_date_time_get_month(t),
                       (GDateYear)g_date_time_get_year(t));
}

/* Of one day: as many as there are, the first after midnight first. */
static gint64 next_in_day(const ScheduleRecord *r, gint64 after_us, GTimeZone *zone)
{
        gint every = (gint)(r->every_us / G_TIME_SPAN_MINUTE);
        GDate day;

        date_of(&day, after_us, zone);
        for (gint days = 0;; days++, g_date_add_days(&day, 1))
                for (gint m = r->at_minute % every; m < DAY_MINUTE; m += every) {
                        gint64 t = minute_of(&day, m, zone);

                        if (t > after_us)
                                return t;
                }
}

static gint64 next_day(const ScheduleRecord *r, gint64 after_us, GTimeZone *zone)
{
        gint period = (gint)(r->every_us / DAY_US), gone;
        GDate first, day;

        date_of(&first, r->since_us, zone);
        date_of(&day, after_us, zone);
        gone = MAX(0, g_date_days_between(&first, &day));
        g_date_add_days(&first, (guint)(gone / period * period));
        for (;; g_date_add_days(&first, (guint)period)) {
                gint64 t = minute_of(&first, r->at_minute, zone);

                if (t > after_us && t > r->since_us)
                        return t;
        }
}

gint64 schedule_next(const ScheduleRecord *r, gint64 after_us, GTimeZone *zone)
{
        if (r->at_minute < 0)
                return r->since_us + (MAX(0, after_us - r->since_us) / r->every_us + 1) * r->every_us;
        return r->every_us < DAY_US ? next_in_day(r, after_us, zone) : next_day(r, after_us, zone);
}
