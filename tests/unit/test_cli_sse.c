/* tests/unit/test_cli_sse.c - events come out of the stream whole, wherever its bytes are cut. */
#include "host-service/cli/sse.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

TestSuite(cli_sse, .timeout = 20);

static void collect(const struct sse_event *e, gpointer user)
{
        g_string_append_printf(user, "[%s|%s|%s]", e->id ? e->id : "-", e->type, e->data);
}

/* @step bytes at a time. */
static void expect_events(const char *bytes, size_t step, const char *want)
{
        g_autoptr(GString) got = g_string_new(NULL);
        g_autoptr(SseParser) p = sse_parser_new(collect, got);
        size_t len = strlen(bytes);

        for (size_t i = 0; i < len; i += step)
                cr_assert(sse_parser_feed(p, bytes + i, MIN(step, len - i)));
        cr_expect(eq(str, got->str, (char *)want), "in steps of %zu", step);
}

static void expect(const char *bytes, const char *want)
{
        for (size_t step = 1; step <= strlen(bytes); step++)
                expect_events(bytes, step, want);
}

Test(cli_sse, an_event_ends_at_an_empty_line)
{
        expect("id: 7\nevent: push.stage\ndata: {}\n\n", "[7|push.stage|{}]");
        expect("data: cut", "");
        expect("data: cut\n", "");
}

Test(cli_sse, lines_end_in_any_of_three_ways)
{
        expect("data: a\r\n\r\ndata: b\r\rdata: c\n\n", "[-|message|a][-|message|b][-|message|c]");
}

Test(cli_sse, comments_and_unknown_fields_are_skipped)
{
        expect(": heartbeat\n\nretry: 10\n\nfoo\ndata: x\n\n", "[-|message|x]");
}

Test(cli_sse, the_id_stays_until_there_is_another_and_the_type_does_not)
{
        expect("id: 1\nevent: e\ndata: x\n\ndata: y\n\nid: 2\ndata: z\n\n",
               "[1|e|x][1|message|y][2|message|z]");
}

Test(cli_sse, several_data_lines_are_one_text)
{
        expect("data: a\ndata:b\ndata\ndata:  c\n\n", "[-|message|a\nb\n\n c]");
}

Test(cli_sse, an_event_without_end_is_given_up)
{
        g_autoptr(GString) got = g_string_new(NULL);
        g_autoptr(SseParser) p = sse_parser_new(collect, got);
        g_autofree char *block = g_strnfill(1 << 20, 'x');
        unsigned fed = 0;

        cr_assert(sse_parser_feed(p, "data: ", 6));
        while (sse_parser_feed(p, block, 1 << 20))
                cr_assert(lt(u32, ++fed, 17));
        cr_expect(eq(u32, fed, 15));
}
