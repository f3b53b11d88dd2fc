/* tests/unit/test_common_events.c - one event is one line, whatever a peer put into it. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
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

Test(events, held_back_ones_are_written_in_their_order_and_no_more_than_memory_is_for)
{
        FILE *all = tmpfile();
        int saved = dup(STDERR_FILENO);
        char text[65536];
        ssize_t n;

        dup2(fileno(all), STDERR_FILENO);
        event_hold(TRUE);
        for (int i = 0; i < 300; i++) {
                g_autofree char *number = g_strdup_printf("%d", i);
                event_log(EVENT_ERROR, "push-failed", "the push failed", "n", number, NULL);
        }
        n = pread(fileno(all), text, sizeof text, 0);
        cr_expect(eq(int, (int)n, 0));
        event_hold(FALSE);
        event_log(EVENT_ERROR, "push-failed", "afterwards", NULL);
        dup2(saved, STDERR_FILENO);
        n = pread(fileno(all), text, sizeof text - 1, 0);
        text[MAX(n, 0)] = 0;
        cr_expect(
                eq(int,
                   strncmp(text,
                           "error push-failed: the push failed n=0\nerror push-failed: the push failed n=1\n",
                           78),
                   0));
        cr_expect(ne(ptr,
                     strstr(text, " n=255\nwarning events-dropped: 44 more events were not kept\n"
                                  "error push-failed: afterwards\n"),
                     NULL));
        close(saved);
        fclose(all);
}

Test(events, values_cannot_forge_a_second_line_or_field)
{
        g_autofree char *line = logged(EVENT_INFO, EVENT_ERROR, "a\nerror fake: \"x\" b=c\x1b[2J\xff");
        cr_expect(eq(ptr, strchr(line, '\n'), line + strlen(line) - 1));
        cr_expect(ne(ptr, strstr(line, "vm=\"a\\x0aerror fake: \\\"x\\\" b=c\\x1b[2J"), NULL));
        cr_expect(g_utf8_validate(line, -1, NULL));
}
