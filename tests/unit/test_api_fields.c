/* tests/unit/test_api_fields.c - the members of a request against their table. */
#include "host-service/api/fields.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

TestSuite(api_fields, .timeout = 60);

static const char *not_x(const char *text)
{
        return strchr(text, 'x') ? "must not have an x" : NULL;
}

static const struct field table[] = {
        {"name", FIELD_TEXT, TRUE, 0, 0, not_x},
        {"flag", FIELD_FLAG, FALSE, 0, 0, NULL},
        {"n", FIELD_NUMBER, FALSE, -1, 10, NULL},
        {"list", FIELD_TEXTS, FALSE, 1, 2, not_x},
        {"either", FIELD_FLAG_OR_TEXT, FALSE, 0, 0, not_x},
        {"map", FIELD_MAP, FALSE, 0, 2, not_x},
        {0},
};

static char *body(const char *text)
{
        g_autoptr(JsonNode) node = json_from_string(text, NULL);
        char *why;

        cr_assert(ne(ptr, node, NULL), "%s", text);
        why = fields_refusal(json_node_get_object(node), table);
        return why ? why : g_strdup("good");
}

#define EXPECT(f, text, want)                                                                                \
        do {                                                                                                 \
                g_autofree char *got = f(text);                                                              \
                cr_expect(eq(str, got, want), "%s", text);                                                   \
        } while (0)

Test(api_fields, bodies)
{
        EXPECT(body, "{\"name\": \"a\", \"flag\": false, \"n\": -1, \"list\": [\"a\"], \"either\": true}",
               "good");
        EXPECT(body, "{\"name\": \"a\", \"either\": \"t\", \"n\": 10}", "good");
        EXPECT(body, "{}", "\"name\" is missing");
        EXPECT(body, "{\"name\": \"ax\"}", "\"name\" must not have an x");
        EXPECT(body, "{\"name\": null}", "\"name\" must be a text");
        EXPECT(body, "{\"name\": {}}", "\"name\" must be a text");
        EXPECT(body, "{\"name\": \"a\", \"flag\": 1}", "\"flag\" must be true or false");
        EXPECT(body, "{\"name\": \"a\", \"n\": 11}", "\"n\" must be a whole number from -1 to 10");
        EXPECT(body, "{\"name\": \"a\", \"n\": 1.0}", "\"n\" must be a whole number from -1 to 10");
        EXPECT(body, "{\"name\": \"a\", \"n\": \"1\"}", "\"n\" must be a whole number from -1 to 10");
        EXPECT(body, "{\"name\": \"a\", \"list\": []}", "\"list\" must be a list of 1 to 2 texts");
        EXPECT(body, "{\"name\": \"a\", \"list\": [\"a\", \"b\", \"c\"]}",
               "\"list\" must be a list of 1 to 2 texts");
        EXPECT(body, "{\"name\": \"a\", \"list\": [[]]}", "\"list\" must hold only texts");
        EXPECT(body, "{\"name\": \"a\", \"list\": [\"a\", \"x\"]}", "\"list\" must not have an x");
        EXPECT(body, "{\"name\": \"a\", \"either\": 1}", "\"either\" must be true, false or a text");
        EXPECT(body, "{\"name\": \"a\", \"either\": \"x\"}", "\"either\" must not have an x");
        EXPECT(body, "{\"name\": \"a\", \"Flag\": true}",
               "\"Flag\" is not known here; known: name, flag, n, list, either, map");
}

static char *query(const char *text)
{
        g_autoptr(GHashTable) h = g_uri_parse_params(text, -1, "&", G_URI_PARAMS_NONE, NULL);
        char *why = fields_query_refusal(h, table);

        return why ? why : g_strdup("good");
}

Test(api_fields, maps)
{
        EXPECT(body, "{\"name\": \"a\", \"map\": {}}", "good");
        EXPECT(body, "{\"name\": \"a\", \"map\": {\"a\": \"b\", \"c\": \"\"}}", "good");
        EXPECT(body, "{\"name\": \"a\", \"map\": [\"a\"]}", "\"map\" must be an object of 0 to 2 texts");
        EXPECT(body, "{\"name\": \"a\", \"map\": {\"a\": \"\", \"b\": \"\", \"c\": \"\"}}",
               "\"map\" must be an object of 0 to 2 texts");
        EXPECT(body, "{\"name\": \"a\", \"map\": {\"a\": 1}}", "\"map\" must hold only texts");
        EXPECT(body, "{\"name\": \"a\", \"map\": {\"a\": null}}", "\"map\" must hold only texts");
        EXPECT(body, "{\"name\": \"a\", \"map\": {\"x\": \"b\"}}", "\"map\" must not have an x");
        EXPECT(body, "{\"name\": \"a\", \"map\": {\"a\": \"x\"}}", "\"map\" must not have an x");
}

Test(api_fields, queries)
{
        EXPECT(query, "name=a&flag=1&n=10", "good");
        EXPECT(query, "name=a&flag=false&n=0", "good");
        EXPECT(query, "flag=1", "the query parameter \"name\" is missing");
        EXPECT(query, "name=a&flag=yes", "\"flag\" must be true or false");
        EXPECT(query, "name=a&n=", "\"n\" must be a whole number from -1 to 10");
        EXPECT(query, "name=a&n=%201", "\"n\" must be a whole number from -1 to 10");
        EXPECT(query, "name=a&n=1x", "\"n\" must be a whole number from -1 to 10");
        EXPECT(query, "name=a&n=99999999999999999999", "\"n\" must be a whole number from -1 to 10");
        EXPECT(query, "name=x", "\"name\" must not have an x");
        EXPECT(query, "name=a&other=1",
               "\"other\" is not known here; known: name, flag, n, list, either, map");
}

Test(api_fields, an_unknown_name_that_is_no_text_does_no_harm)
{
        g_autoptr(JsonObject) o = json_object_new();

        json_object_set_int_member(o, "\xff\xfe", 1);
        g_autofree char *why = fields_refusal(o, NULL);
        cr_expect(g_utf8_validate(why, -1, NULL));
        cr_expect(ne(ptr, strstr(why, "known: none"), NULL));
}
