/* tests/unit/test_common_events.c - one event is one line, whatever a peer put into it. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <unistd.h>

#include "common/events.h"
#include "common/fd.h"

TestSuite(events, .timeout = 20);

/* What one call writes to stderr. */
static char *logged(EventLevel lowest, EventLevel level, const char *value)
{
        int pipe_fds[2];
        cr_assert(eq(int, pipe(pipe_fds), 0));
        int saved = dup(STDERR_FILENO);
        dup2(pipe_fds[1], STDERR_FILENO);
        event_set_level(lowest);
        event_log(level, "push-failed", "the push failed", "vm", value, NULL);
        dup2(saved, STDERR_FILENO);
        close(saved);
        close(pipe_fds[1]);
        char buf[4096];
        ssize_t n = read(pipe_fds[0], buf, sizeof buf - 1);
        close(pipe_fds[0]);
        return g_strndup(buf, n > 0 ? (gsize)n : 0);
}

Test(events, a_line_has_level_id_text_and_fields)
{
        g_autofree char *line = logged(EVENT_INFO, EVENT_WARNING, "web-1");
        cr_expect(eq(str, line, "warning push-failed: the push failed vm=web-1\n"));
}

Test(events, below_the_lowest_level_nothing_is_written)
{
        g_autofree char *line = logged(EVENT_NOTICE, EVENT_INFO, "web-1");
        cr_expect(eq(str, line, ""));
}

static void note_event(EventLevel level, const char *event_id, gpointer user)
{
        g_string_append_printf(user, "%d %s;", (int)level, event_id);
}

Test(events, the_observer_is_told_also_of_what_is_not_written)
{
        g_autoptr(GString) seen = g_string_new(NULL);
        g_autofree char *first = NULL, *second = NULL;

        event_set_observer(note_event, seen);
        first = logged(EVENT_ERROR, EVENT_INFO, "web-1");
        event_set_observer(NULL, NULL);
        second = logged(EVENT_ERROR, EVENT_INFO, "web-1");
        cr_expect(eq(str, first, ""));
        cr_expect(eq(str, seen->str, "1 push-failed;"));
}

Test(events, values_cannot_forge_a_second_line_or_field)
{
        g_autofree char *line = logged(EVENT_INFO, EVENT_ERROR, "a\nerror fake: \"x\" b=c\x1b[2J\xff");
        cr_expect(eq(ptr, strchr(line, '\n'), line + strlen(line) - 1));
        cr_expect(ne(ptr, strstr(line, "vm=\"a\\x0aerror fake: \\\"x\\\" b=c\\x1b[2J"), NULL));
        cr_expect(g_utf8_validate(line, -1, NULL));
}
