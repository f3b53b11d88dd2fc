/* host-service/snapshot/schedule_time.h - when a schedule's next snapshot is due. Pure.
 *
 * Without a time of day they are one period apart, from when the schedule was set. With one they are at that
 * time of the local day: each so many days later, or, below a day, in equal parts of a day that has one of
 * them then; by the clock on the wall, also where that is put forward or back. */
#pragma once

#include <glib.h>

#include "host-service/catalogue/schedules.h"

#define SCHEDULE_EVERY_MIN_S 60
#define SCHEDULE_EVERY_MAX_S (400 * 86400)

/* NULL, or why not: a period of whole days, or one that a whole number of them make a day, has to be with
 * @at_minute
 * (-1: none). Static. */
const char *schedule_refusal(gint64 every_us, gint at_minute);
/* "03:00" to minutes. FALSE: it is no time of day. */
gboolean schedule_parse_at(const char *text, gint *ret_minute);
/* The first one after @after_us. Of those before it none is made up for by this. */
gint64 schedule_next(const ScheduleRecord *r, gint64 after_us, GTimeZone *zone);
