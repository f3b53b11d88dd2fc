/* host-service/cli/text.c - quantities and foreign bytes as text that is safe to show on a terminal. */
#include "host-service/cli/text.h"

#include <string.h>

#include "host-service/cli/exit_code.h"

/* Direction overrides can make "exe.txt" of "txt.exe"; line separators can fake a line of output. */
static gboolean is_showable(gunichar c)
{
        if (c >= 0x202a && c <= 0x202e)
                return FALSE;
        if ((c >= 0x2066 && c <= 0x2069) || c == 0x200e || c == 0x200f || c == 0x061c)
                return FALSE;
        if (c == 0x2028 || c == 0x2029 || c == 0xfeff)
                return FALSE;
        return g_unichar_isprint(c) || c == 0x200d;
}

static char *make_safe(const char *p, const char *end, gboolean lines)
{
        GString *s = g_string_sized_new((gsize)(end - p) + 1);

        while (p < end) {
                gunichar c = g_utf8_get_char_validated(p, end - p);
                const char *next = (gint32)c >= 0 ? g_utf8_next_char(p) : p + 1;

                if (*p == '\\' && !lines)
                        g_string_append(s, "\\\\");
                else if ((gint32)c >= 0 && (is_showable(c) || (lines && (c == '\n' || c == '\t'))))
                        g_string_append_len(s, p, next - p);
                else
                        for (const char *q = p; q < next; q++)
                                g_string_append_printf(s, "\\x%02x", (guchar)*q);
                p = next;
        }
        return g_string_free(s, FALSE);
}

char *text_safe(const void *bytes, gsize len)
{
        return make_safe(bytes, (const char *)bytes + len, FALSE);
}

char *text_safe_lines(const char *text)
{
        return make_safe(text, text + strlen(text), TRUE);
}

char *text_bytes(uint64_t bytes)
{
        static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
        double value = (double)bytes / 1024.0;
        unsigned unit = 0;

        if (bytes < 1024)
                return g_strdup_printf("%u B", (unsigned)bytes);
        /* 1023.96 would be printed as 1024.0. */
        while (value >= 1023.95 && unit + 1 < G_N_ELEMENTS(units)) {
                value /= 1024.0;
                unit++;
        }
        return g_strdup_printf("%.1f %s", value, units[unit]);
}

char *text_duration_us(uint64_t us)
{
        uint64_t s = (us + 500000) / 1000000;

        if (us < 1000)
                return g_strdup_printf("%u us", (unsigned)us);
        if (us < 999950)
                return g_strdup_printf("%.1f ms", (double)us / 1e3);
        if (us < 59950000)
                return g_strdup_printf("%.1f s", (double)us / 1e6);
        if (s < 3600)
                return g_strdup_printf("%u min %u s", (unsigned)(s / 60), (unsigned)(s % 60));
        return g_strdup_printf("%" G_GUINT64_FORMAT " h %u min", s / 3600, (unsigned)(s % 3600 / 60));
}

char *text_time(int64_t unix_s)
{
        g_autoptr(GDateTime) t = unix_s != 0 ? g_date_time_new_from_unix_local(unix_s) : NULL;

        return t ? g_date_time_format(t, "%Y-%m-%d %H:%M:%S") : g_strdup("-");
}

gboolean text_parse_u64(const char *what, const char *text, uint64_t max, uint64_t *ret, GError **error)
{
        g_autoptr(GError) cause = NULL;
        guint64 value;

        if (!g_ascii_isdigit(*text) || !g_ascii_string_to_unsigned(text, 10, 0, max, &value, &cause)) {
                g_set_error(error, CLI_ERROR, CLI_ERROR_USAGE,
                            "%s must be a number between 0 and %" G_GUINT64_FORMAT "; not '%s'", what, max,
                            text);
                return FALSE;
        }
        *ret = value;
        return TRUE;
}

static const struct {
        const char *name;
        uint64_t ms;
} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {"w", 604800000}};

/* One "90s" of the text; FALSE if it is none or too large. */
static gboolean parse_part(const char **p, uint64_t *ret_ms)
{
        uint64_t value = 0;
        const char *unit;

        if (!g_ascii_isdigit(**p))
                return FALSE;
        for (; g_ascii_isdigit(**p); (*p)++)
                if (__builtin_mul_overflow(value, 10u, &value) ||
                    __builtin_add_overflow(value, (unsigned)(**p - '0'), &value))
                        return FALSE;
        unit = *p;
        while (g_ascii_isalpha(**p))
                (*p)++;
        if (unit == *p && **p == '\0')
                return !__builtin_mul_overflow(value, 1000u, ret_ms);
        for (unsigned i = 0; i < G_N_ELEMENTS(units); i++)
                if (strlen(units[i].name) == (size_t)(*p - unit) &&
                    !strncmp(units[i].name, unit, (size_t)(*p - unit)))
                        return !__builtin_mul_overflow(value, units[i].ms, ret_ms);
        return FALSE;
}

gboolean text_parse_duration_ms(const char *text, uint64_t max_ms, uint64_t *ret_ms, GError **error)
{
        const char *p = text;
        uint64_t sum = 0, part = 0;
        gboolean ok = *p != '\0';

        while (ok && *p)
                ok = parse_part(&p, &part) && !__builtin_add_overflow(sum, part, &sum);
        if (!ok) {
                g_set_error(error, CLI_ERROR, CLI_ERROR_USAGE,
                            "'%s' is not a length of time; write it like 500ms, 60s, 10m, 1h, 1d or 1m30s",
                            text);
                return FALSE;
        }
        if (sum == 0 || sum > max_ms) {
                g_autofree char *most = text_duration_us(max_ms * 1000);

                g_set_error(error, CLI_ERROR, CLI_ERROR_USAGE,
                            "'%s' is out of range: more than 0, at most %s", text, most);
                return FALSE;
        }
        *ret_ms = sum;
        return TRUE;
}
