/* host-service/snapshot/restore_time.c - "2h ago", and times of day. */
#include "host-service/snapshot/restore_time.h"

#include <string.h>

static gint64 unit_seconds(char unit)
{
        switch (unit) {
        case 's':
                return 1;
        case 'm':
                return 60;
        case 'h':
                return 3600;
        case 'd':
                return 86400;
        case 'w':
                return 7 * 86400;
        default:
                return 0;
        }
}

static gboolean parse_ago(const char *text, gint64 now_us, gint64 *ret_us)
{
        char *end;
        guint64 n = g_ascii_isdigit(*text) ? g_ascii_strtoull(text, &end, 10) : 0;
        gint64 unit;

        if (!g_ascii_isdigit(*text) || n > G_MAXINT32)
                return FALSE;
        end += *end == ' ';
        unit = unit_seconds(*end);
        if (unit == 0 || (end[1] != '\0' && !g_str_equal(end + 1, " ago")))
                return FALSE;
        *ret_us = now_us - (gint64)n * unit * G_USEC_PER_SEC;
        return TRUE;
}

static gboolean parse_iso(const char *text, const char *suffix, GTimeZone *local, gint64 *ret_us)
{
        g_autofree char *whole = g_strconcat(text, suffix, NULL);
        g_autoptr(GDateTime) t = g_date_time_new_from_iso8601(whole, local);

        if (t)
                *ret_us = g_date_time_to_unix(t) * G_USEC_PER_SEC + g_date_time_get_microsecond(t);
        return t != NULL;
}

gboolean restore_time_parse(const char *text, gint64 now_us, GTimeZone *local, gint64 *ret_us)
{
        if (strlen(text) > RESTORE_TIME_MAX)
                return FALSE;
        return parse_ago(text, now_us, ret_us) || parse_iso(text, "", local, ret_us) ||
               parse_iso(text, ":00", local, ret_us) || parse_iso(text, "T23:59:59.999999", local, ret_us);
}

char *restore_time_text(gint64 at_us, GTimeZone *local)
{
        g_autoptr(GDateTime) utc = g_date_time_new_from_unix_utc(at_us / G_USEC_PER_SEC);
        g_autoptr(GDateTime) t = utc ? g_date_time_to_timezone(utc, local) : NULL;

        return t ? g_date_time_format(t, "%Y-%m-%d %H:%M:%S%:z") : g_strdup("?");
}
