/* guest-agent/stale_parse.c - what the kernel's texts about a process say. */
#include "guest-agent/stale_parse.h"

#include <string.h>

#include "proto/limits.h"

#define DELETED     " (deleted)"
#define ASIDE       "/.moult/"
#define PF_KTHREAD_ 0x00200000u

/* Skips one word and the blanks after it; NULL at the end of the line. */
static const char *next_word(const char *at, const char *end)
{
        while (at < end && *at != ' ')
                at++;
        while (at < end && *at == ' ')
                at++;
        return at < end ? at : NULL;
}

/* "START-END PERMS OFFSET DEV INODE   NAME" */
static gboolean parse_line(const char *line, const char *end, struct stale_mapping *ret)
{
        const char *at = line;

        for (int word = 0; word < 5; word++) {
                at = next_word(at, end);
                if (!at)
                        return FALSE;
        }
        if (*at != '/')
                return FALSE; /* [stack] and its like */
        *ret = (struct stale_mapping){.range = line, .name = at, .name_len = (gsize)(end - at)};
        return TRUE;
}

gboolean stale_mapping_next(const char **at, struct stale_mapping *ret)
{
        while (**at) {
                const char *line = *at, *end = strchrnul(line, '\n');

                *at = *end ? end + 1 : end;
                if (parse_line(line, end, ret))
                        return TRUE;
        }
        return FALSE;
}

char *stale_mapping_link(const struct stale_mapping *m)
{
        char *end;
        guint64 first = g_ascii_strtoull(m->range, &end, 16), after = 0;

        if (*end == '-')
                after = g_ascii_strtoull(end + 1, NULL, 16);
        return g_strdup_printf("map_files/%" G_GINT64_MODIFIER "x-%" G_GINT64_MODIFIER "x", first, after);
}

char *stale_mapping_name(const struct stale_mapping *m)
{
        g_autofree char *raw = g_strndup(m->name, m->name_len);
        g_auto(GStrv) parts = g_strsplit(raw, "\\012", -1);

        return g_strjoinv("\n", parts);
}

char *stale_name_undeleted(const char *name)
{
        return g_str_has_suffix(name, DELETED) ? g_strndup(name, strlen(name) - strlen(DELETED)) : NULL;
}

/* Digits up to @stop or the end, no sign, no zero first but alone. */
static gboolean parse_number(const char **at, guint64 max, guint64 *ret)
{
        char *end;

        if (!g_ascii_isdigit(**at))
                return FALSE;
        *ret = g_ascii_strtoull(*at, &end, 10);
        *at = end;
        return *ret <= max;
}

gboolean stale_aside_parse(const char *name, guint64 *ret_generation, guint32 *ret_entry,
                           const char **ret_rest)
{
        /* The last one: an area may lie below a directory of that name. */
        const char *at = g_strrstr(name, ASIDE);
        guint64 generation, entry;

        if (!at)
                return FALSE;
        at += strlen(ASIDE);
        if (!parse_number(&at, G_MAXUINT64 - 1, &generation) || *at++ != '/' ||
            !parse_number(&at, LIMIT_ENTRIES - 1, &entry) || (*at && *at != '/'))
                return FALSE;
        *ret_generation = generation;
        *ret_entry = (guint32)entry;
        *ret_rest = at;
        return TRUE;
}

static gboolean is_unit(const char *name)
{
        static const char *const kinds[] = {".service", ".scope", ".socket", ".mount", ".swap", ".timer"};

        for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
                if (g_str_has_suffix(name, kinds[i]) && strlen(name) > strlen(kinds[i]))
                        return TRUE;
        return FALSE;
}

/* The first component that is no slice: what the machine's own manager started. What a unit has below itself
 * (a user's manager, a container) is its own affair. */
static char *unit_of_path(const char *path)
{
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);

        for (int i = 0; parts[i]; i++) {
                /* systemd puts '_' before a name that would look like one of the kernel's own files. */
                const char *name = parts[i][0] == '_' ? parts[i] + 1 : parts[i];

                if (name[0] == '\0' || g_str_has_suffix(name, ".slice"))
                        continue;
                return is_unit(name) && strlen(name) <= LIMIT_STALE_UNIT ? g_strdup(name) : NULL;
        }
        return NULL;
}

char *stale_unit_of_cgroup(const char *text)
{
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        char *unit = NULL;

        /* "0::/system.slice/x.service" (cgroup2), "1:name=systemd:/system.slice/x.service" */
        for (int i = 0; lines[i] && !unit; i++) {
                const char *controllers = strchr(lines[i], ':');
                const char *path = controllers ? strchr(controllers + 1, ':') : NULL;

                if (path &&
                    (g_str_has_prefix(controllers, "::") || g_str_has_prefix(controllers, ":name=systemd:")))
                        unit = unit_of_path(path + 1);
        }
        return unit;
}

gboolean stale_unit_is(const char *unit, const char *name)
{
        static const char service[] = ".service";
        gsize n = strlen(name), u = strlen(unit);

        if (g_str_has_suffix(name, service))
                n -= strlen(service);
        if (g_str_has_suffix(unit, service))
                u -= strlen(service);
        return n == u && strncmp(unit, name, n) == 0;
}

gboolean stale_stat_parse(const char *text, struct stale_stat *ret)
{
        /* "PID (TITLE) STATE PPID PGRP SESSION TTY TPGID FLAGS ...": the title may hold anything. */
        const char *at = strrchr(text, ')');
        g_auto(GStrv) f = at ? g_strsplit(at + 1, " ", 9) : NULL;

        if (!f || g_strv_length(f) < 9)
                return FALSE;
        ret->ended = f[1][0] == 'Z' || f[1][0] == 'X';
        ret->parent = g_ascii_strtoll(f[2], NULL, 10);
        ret->kernel_thread = (g_ascii_strtoull(f[7], NULL, 10) & PF_KTHREAD_) != 0;
        return TRUE;
}

char *stale_command_of(const char *arguments, gsize len)
{
        gsize first = strnlen(arguments, len);
        GString *s;

        if (first == 0)
                return NULL;
        s = g_string_new_len(arguments, (gssize)first);
        if (first + 1 < len && arguments[first + 1] == '/') {
                g_string_append_c(s, ' ');
                g_string_append_len(s, arguments + first + 1,
                                    (gssize)strnlen(arguments + first + 1, len - first - 1));
        }
        g_string_truncate(s, MIN(s->len, LIMIT_STALE_COMMAND));
        return g_string_free(s, FALSE);
}

gboolean stale_namespace_parse(const char *link, guint64 *ret)
{
        const char *at = strchr(link, '[');

        if (!at)
                return FALSE;
        at++;
        return parse_number(&at, G_MAXUINT64, ret) && g_str_equal(at, "]");
}

gint64 stale_pid_file_parse(const char *text)
{
        guint64 pid;

        while (g_ascii_isspace(*text))
                text++;
        if (!parse_number(&text, G_MAXINT32, &pid))
                return 0;
        return *text == '\0' || g_ascii_isspace(*text) ? (gint64)pid : 0;
}
