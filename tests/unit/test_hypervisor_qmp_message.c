/* tests/unit/test_hypervisor_qmp_message.c - QMP lines and messages: whole, bounded, judged. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "host-service/hypervisor/qmp_message.h"

TestSuite(qmp_message, .timeout = 60);

static QmpMessage *parse(const char *line)
{
        return qmp_message_parse(line, strlen(line), NULL);
}

Test(qmp_message, lines_come_out_whole_however_they_go_in)
{
        static const char stream[] = "{\"a\":1}\r\n\n{\"b\":2}\n{\"c\"";

        for (size_t cut = 1; cut < sizeof stream - 1; cut++) {
                g_autoptr(QmpLines) lines = qmp_lines_new();
                g_autofree char *a = NULL, *b = NULL;
                gsize len = 0;

                cr_assert(qmp_lines_push(lines, stream, cut, NULL));
                a = qmp_lines_pull(lines, &len);
                cr_assert(qmp_lines_push(lines, stream + cut, sizeof stream - 1 - cut, NULL));
                if (!a)
                        a = qmp_lines_pull(lines, &len);
                b = qmp_lines_pull(lines, &len);
                cr_expect(eq(str, a, "{\"a\":1}"));
                cr_expect(eq(str, b, "{\"b\":2}"));
                cr_expect(eq(ptr, qmp_lines_pull(lines, &len), NULL));
        }
}

Test(qmp_message, a_line_without_end_is_cut_off_at_the_bound)
{
        g_autoptr(QmpLines) lines = qmp_lines_new();
        g_autoptr(GError) error = NULL;
        char block[4096];
        gsize pushed = 0;

        memset(block, 'x', sizeof block);
        while (qmp_lines_push(lines, block, sizeof block, &error))
                pushed += sizeof block;
        cr_expect(eq(sz, pushed, QMP_LINE_MAX));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_MALFORMED));
}

Test(qmp_message, tells_greeting_answer_error_and_event_apart)
{
        g_autoptr(QmpMessage) greeting = parse("{\"QMP\":{\"version\":{},\"capabilities\":[]}}");
        g_autoptr(QmpMessage) answer = parse("{\"return\":{\"x\":1},\"id\":7}");
        g_autoptr(QmpMessage) refusal =
                parse("{\"id\":8,\"error\":{\"class\":\"DeviceNotFound\",\"desc\":\"no such thing\"}}");
        g_autoptr(QmpMessage) event =
                parse("{\"event\":\"RESET\",\"data\":{\"guest\":true},\"timestamp\":{}}");

        cr_assert(greeting && answer && refusal && event);
        cr_expect(eq(int, greeting->kind, QMP_GREETING));
        cr_expect(eq(int, answer->kind, QMP_RETURN));
        cr_expect(eq(u64, answer->id, 7));
        cr_expect(eq(int, refusal->kind, QMP_ERROR));
        cr_expect(eq(str, refusal->name, "DeviceNotFound"));
        cr_expect(eq(str, refusal->text, "no such thing"));
        cr_expect(eq(int, event->kind, QMP_EVENT));
        cr_expect(eq(str, event->name, "RESET"));
}

Test(qmp_message, refuses_what_is_no_message)
{
        static const char *const bad[] = {"",
                                          "nonsense",
                                          "[]",
                                          "1",
                                          "{}",
                                          "{\"id\":1}",
                                          "{\"return\"",
                                          "{\"event\":1}",
                                          "{\"error\":\"text\"}",
                                          "{\"return\":{}} // {{{{",
                                          "{'return':1}"};

        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                g_autoptr(GError) error = NULL;

                cr_expect(eq(ptr, qmp_message_parse(bad[i], strlen(bad[i]), &error), NULL), "%s", bad[i]);
                cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_MALFORMED), "%s", bad[i]);
        }
}

Test(qmp_message, deep_nesting_is_refused_before_the_json_parser_recurses)
{
        g_autoptr(GString) line = g_string_new("{\"return\":");
        g_autoptr(GError) error = NULL;

        for (int i = 0; i < 500000; i++)
                g_string_append_c(line, '[');
        cr_expect(eq(ptr, qmp_message_parse(line->str, line->len, &error), NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_MALFORMED));
}

Test(qmp_message, brackets_inside_strings_do_not_count)
{
        g_autoptr(GString) line = g_string_new("{\"return\":\"\\\"");
        g_autoptr(QmpMessage) m = NULL;

        for (int i = 0; i < 1000; i++)
                g_string_append_c(line, '[');
        g_string_append(line, "/'\"}");
        m = parse(line->str);
        cr_assert(ne(ptr, m, NULL));
}

Test(qmp_message, a_nul_byte_does_not_hide_the_rest_of_a_line)
{
        static const char line[] = "{\"return\":{}}\0{\"event\":\"X\"}";

        cr_expect(eq(ptr, qmp_message_parse(line, sizeof line - 1, NULL), NULL));
}

Test(qmp_message, members_of_another_type_are_missing)
{
        g_autoptr(QmpMessage) m = parse("{\"return\":{\"n\":\"text\",\"s\":5,\"o\":[],\"a\":{}}}");
        JsonObject *o = qmp_object(m->data);
        gint64 n;

        cr_expect(not(qmp_int(o, "n", &n)));
        cr_expect(eq(ptr, (void *)qmp_string(o, "s"), NULL));
        cr_expect(eq(ptr, qmp_object(qmp_member(o, "o")), NULL));
        cr_expect(eq(ptr, qmp_array(qmp_member(o, "a")), NULL));
        cr_expect(eq(ptr, qmp_member(NULL, "x"), NULL));
}

Test(qmp_message, a_command_is_one_line_with_its_id)
{
        JsonObject *args = json_object_new();
        g_autofree char *line = NULL;

        json_object_set_string_member(args, "path", "a\nb");
        line = qmp_command_line("qom-list", args, 3);
        json_object_unref(args);
        cr_expect(eq(ptr, strchr(line, '\n'), line + strlen(line) - 1));
        cr_expect(ne(ptr, strstr(line, "\"id\":3"), NULL));
}
