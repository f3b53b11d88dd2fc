/* tests/unit/test_cli_output.c - one tree, three looks: table, JSON, YAML. */
#include "host-service/cli/output.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(cli_output, .timeout = 20);

static const struct column columns[] = {
        {"NAME", "name", COLUMN_TEXT},
        {"SIZE", "size", COLUMN_BYTES},
        {"WHY", "error.code", COLUMN_TEXT},
        {0},
};

static char *print(const char *json, CliFormat format, gboolean list)
{
        char *text = NULL;
        size_t len = 0;
        Cli cli = {.format = format, .out = open_memstream(&text, &len)};
        g_autoptr(JsonNode) node = json_from_string(json, NULL);

        cr_assert(ne(ptr, node, NULL));
        cr_assert(list ? output_list(&cli, node, columns, "No rows", NULL)
                       : output_object(&cli, node, columns, NULL));
        fclose(cli.out);
        return text;
}

static void expect_print(const char *json, CliFormat format, gboolean list, const char *want)
{
        char *got = print(json, format, list);

        cr_expect(eq(str, got, (char *)want));
        free(got);
}

Test(cli_output, a_table_has_aligned_columns)
{
        expect_print("[{\"name\":\"web-1\",\"size\":2048},"
                     "{\"name\":\"a-longer-name\",\"size\":1,\"error\":{\"code\":\"refused\"}}]",
                     CLI_FORMAT_TABLE, TRUE,
                     "NAME           SIZE     WHY\n"
                     "web-1          2.0 KiB\n"
                     "a-longer-name  1 B      refused\n");
}

Test(cli_output, an_empty_table_says_so)
{
        expect_print("[]", CLI_FORMAT_TABLE, TRUE, "No rows\n");
        expect_print("[]", CLI_FORMAT_JSON, TRUE, "[]\n");
        expect_print("[]", CLI_FORMAT_YAML, TRUE, "[]\n");
}

Test(cli_output, absent_null_and_odd_members_leave_a_cell_empty_or_shown)
{
        expect_print("[{\"name\":null,\"size\":\"big\",\"error\":7},3]", CLI_FORMAT_TABLE, TRUE,
                     "NAME  SIZE  WHY\n"
                     "      big\n"
                     "\n");
}

Test(cli_output, a_cell_cannot_move_the_cursor_or_fake_a_row)
{
        expect_print("[{\"name\":\"a\\u001b[2Jb\\nweb-9  ok\"}]", CLI_FORMAT_TABLE, TRUE,
                     "NAME                 SIZE  WHY\n"
                     "a\\x1b[2Jb web-9  ok\n");
}

Test(cli_output, an_object_is_one_line_for_each_member_that_is_there)
{
        expect_print("{\"name\":\"web-1\",\"size\":3}", CLI_FORMAT_TABLE, FALSE,
                     "NAME:  web-1\n"
                     "SIZE:  3 B\n");
}

Test(cli_output, machines_get_everything)
{
        expect_print("{\"name\":\"web-1\",\"other\":[1,true,null]}", CLI_FORMAT_JSON, FALSE,
                     "{\n  \"name\" : \"web-1\",\n  \"other\" : [\n    1,\n    true,\n    null\n  ]\n}\n");
        expect_print("{\"name\":\"web-1\",\"other\":[1,true,null],\"o\":{}}", CLI_FORMAT_YAML, FALSE,
                     "name: web-1\nother:\n- 1\n- true\n- null\no: {}\n");
}

Test(cli_output, yaml_quotes_what_could_be_taken_for_something_else)
{
        expect_print("{\"a\":\"true\",\"b\":\"12\",\"c\":\"1e3\",\"d\":\"\",\"e\":\"~\",\"f\":\"no\",\"g\":"
                     "\"2026-11-22\","
                     "\"h\":\"x: y\",\"i\":\"- z\",\"j\":\"two\\nlines\",\"k\":\"NULL\",\"yes\":1.5}",
                     CLI_FORMAT_YAML, FALSE,
                     "a: \"true\"\nb: \"12\"\nc: \"1e3\"\nd: \"\"\ne: \"~\"\nf: \"no\"\ng: \"2026-11-22\"\n"
                     "h: \"x: y\"\ni: \"- z\"\nj: \"two\\nlines\"\nk: \"NULL\"\n\"yes\": 1.5\n");
}

Test(cli_output, members_of_the_wrong_kind_are_nothing)
{
        g_autoptr(JsonNode) node =
                json_from_string("{\"s\":\"x\",\"n\":5,\"o\":{\"b\":true},\"a\":[]}", NULL);
        JsonObject *o = json_node_get_object(node);

        cr_expect(eq(ptr, (void *)json_text(o, "n"), NULL));
        cr_expect(eq(i64, json_number(o, "s"), 0));
        cr_expect(eq(i64, json_number(o, "n"), 5));
        cr_expect(json_flag(o, "o.b"));
        cr_expect(not(json_flag(o, "n")));
        cr_expect(eq(ptr, json_child(o, "s"), NULL));
        cr_expect(eq(ptr, json_list(o, "o"), NULL));
        cr_expect(ne(ptr, json_list(o, "a"), NULL));
        cr_expect(eq(ptr, (void *)json_text(o, "s.deeper"), NULL));
}
