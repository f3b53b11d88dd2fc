/* host-service/snapshot/restore_time.h - the time of a restore point as an operator says it: pure.
 *
 *     2026-11-29T20:05:00Z  2026-11-29 20:05:00+01:00   ISO 8601
 *     2026-11-29T20:05:00  2026-11-29 20:05             in the local time zone
 *     2026-11-29                                        the end of that day, in the local time zone
 *     90m ago  2h  3d ago                               s, m, h, d (24 hours), w
 *
 * In an hour that a clock which was put back has twice, GLib takes one of both: who means the other says the
 * offset. */
#pragma once

#include <glib.h>

#define RESTORE_TIME_MAX 64u /* characters */

/* FALSE: @text is no time. @ret_us: since 1970; it may lie in the future. */
gboolean restore_time_parse(const char *text, gint64 now_us, GTimeZone *local, gint64 *ret_us);
/* The time as in "2026-11-29 20:05:00", in @local. Owned by the caller. */
char *restore_time_text(gint64 at_us, GTimeZone *local);
