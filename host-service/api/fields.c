/* host-service/api/fields.c - the check of a request's members against their table. */
#include "host-service/api/fields.h"

#include <string.h>

static const struct field *find(const struct field *fields, const char *name)
{
        for (; fields && fields->name; fields++)
                if (g_str_equal(fields->name, name))
                        return fields;
        return NULL;
}

static char *unknown(const struct field *fields, const char *name)
{
        g_autoptr(GString) known = g_string_new(NULL);
        g_autofree char *shown = g_utf8_make_valid(name, (gssize)MIN(strlen(name), 64));

        for (; fields && fields->name; fields++)
                g_string_append_printf(known, "%s%s", known->len ? ", " : "", fields->name);
        return g_strdup_printf("\"%s\" is not known here; known: %s", shown,
                               known->len ? known->str : "none");
}

static char *text_refusal(const struct field *f, const char *text)
{
        const char *why = f->refusal ? f->refusal(text) : NULL;

        return why ? g_strdup_printf("\"%s\" %s", f->name, why) : NULL;
}

static char *number_refusal(const struct field *f, gint64 n)
{
        if (n >= f->min && n <= f->max)
                return NULL;
        return g_strdup_printf("\"%s\" must be a whole number from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT,
                               f->name, f->min, f->max);
}

static char *texts_refusal(const struct field *f, JsonNode *node)
{
        JsonArray *a = JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
        guint n = a ? json_array_get_length(a) : 0;

        if (!a || n < f->min || n > f->max)
                return g_strdup_printf("\"%s\" must be a list of %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT
                                       " texts",
                                       f->name, f->min, f->max);
        for (guint i = 0; i < n; i++) {
                JsonNode *e = json_array_get_element(a, i);
                char *why;

                if (!JSON_NODE_HOLDS_VALUE(e) || json_node_get_value_type(e) != G_TYPE_STRING)
                        return g_strdup_printf("\"%s\" must hold only texts", f->name);
                why = text_refusal(f, json_node_get_string(e));
                if (why)
                        return why;
        }
        return NULL;
}

static char *objects_refusal(const struct field *f, JsonNode *node)
{
        JsonArray *a = JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
        guint n = a ? json_array_get_length(a) : 0;

        if (!a || n < f->min || n > f->max)
                return g_strdup_printf("\"%s\" must be a list of %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT
                                       " objects",
                                       f->name, f->min, f->max);
        for (guint i = 0; i < n; i++)
                if (!JSON_NODE_HOLDS_OBJECT(json_array_get_element(a, i)))
                        return g_strdup_printf("\"%s\" must hold only objects", f->name);
        return NULL;
}

static char *map_refusal(const struct field *f, JsonNode *node)
{
        JsonObject *o = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
        guint n = o ? json_object_get_size(o) : 0;
        JsonObjectIter iter;
        const char *key;
        JsonNode *e;

        if (!o || n < f->min || n > f->max)
                return g_strdup_printf("\"%s\" must be an object of %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT
                                       " texts",
                                       f->name, f->min, f->max);
        json_object_iter_init(&iter, o);
        while (json_object_iter_next(&iter, &key, &e)) {
                g_autofree char *pair = NULL;
                char *why;

                if (!JSON_NODE_HOLDS_VALUE(e) || json_node_get_value_type(e) != G_TYPE_STRING)
                        return g_strdup_printf("\"%s\" must hold only texts", f->name);
                pair = g_strdup_printf("%s=%s", key, json_node_get_string(e));
                why = text_refusal(f, pair);
                if (why)
                        return why;
        }
        return NULL;
}

static char *value_refusal(const struct field *f, JsonNode *node)
{
        GType type = JSON_NODE_HOLDS_VALUE(node) ? json_node_get_value_type(node) : G_TYPE_INVALID;

        switch (f->type) {
        case FIELD_TEXT:
                if (type != G_TYPE_STRING)
                        return g_strdup_printf("\"%s\" must be a text", f->name);
                return text_refusal(f, json_node_get_string(node));
        case FIELD_FLAG:
                return type == G_TYPE_BOOLEAN ? NULL
                                              : g_strdup_printf("\"%s\" must be true or false", f->name);
        case FIELD_NUMBER:
                if (type != G_TYPE_INT64)
                        return number_refusal(f, f->min - 1);
                return number_refusal(f, json_node_get_int(node));
        case FIELD_TEXTS:
                return texts_refusal(f, node);
        case FIELD_FLAG_OR_TEXT:
                if (type == G_TYPE_BOOLEAN)
                        return NULL;
                if (type != G_TYPE_STRING)
                        return g_strdup_printf("\"%s\" must be true, false or a text", f->name);
                return text_refusal(f, json_node_get_string(node));
        case FIELD_MAP:
                return map_refusal(f, node);
        case FIELD_OBJECTS:
                return objects_refusal(f, node);
        }
        g_assert_not_reached();
}

char *fields_refusal(JsonObject *body, const struct field *fields)
{
        JsonObjectIter iter;
        const char *name;
        JsonNode *node;

        json_object_iter_init(&iter, body);
        while (json_object_iter_next(&iter, &name, &node)) {
                const struct field *f = find(fields, name);
                char *why = f ? value_refusal(f, node) : unknown(fields, name);

                if (why)
                        return why;
        }
        for (const struct field *f = fields; f && f->name; f++)
                if (f->required && !json_object_has_member(body, f->name))
                        return g_strdup_printf("\"%s\" is missing", f->name);
        return NULL;
}

static char *query_value_refusal(const struct field *f, const char *text)
{
        gint64 n;

        switch (f->type) {
        case FIELD_NUMBER:
                /* Only digits: the parser would also take signs and spaces. */
                if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text) ||
                    !g_ascii_string_to_signed(text, 10, 0, G_MAXINT64, &n, NULL))
                        return number_refusal(f, f->min - 1);
                return number_refusal(f, n);
        case FIELD_FLAG:
                if (g_str_equal(text, "1") || g_str_equal(text, "0") || g_str_equal(text, "true") ||
                    g_str_equal(text, "false"))
                        return NULL;
                return g_strdup_printf("\"%s\" must be true or false", f->name);
        default:
                return text_refusal(f, text);
        }
}

char *fields_query_refusal(GHashTable *query, const struct field *fields)
{
        GHashTableIter iter;
        gpointer name, value;

        g_hash_table_iter_init(&iter, query);
        while (g_hash_table_iter_next(&iter, &name, &value)) {
                const struct field *f = find(fields, name);
                char *why = f ? query_value_refusal(f, value) : unknown(fields, name);

                if (why)
                        return why;
        }
        for (const struct field *f = fields; f && f->name; f++)
                if (f->required && !g_hash_table_contains(query, f->name))
                        return g_strdup_printf("the query parameter \"%s\" is missing", f->name);
        return NULL;
}

gint64 fields_query_number(GHashTable *query, const char *name, gint64 fallback)
{
        const char *text = g_hash_table_lookup(query, name);

        return text ? g_ascii_strtoll(text, NULL, 10) : fallback;
}

gboolean fields_query_flag(GHashTable *query, const char *name)
{
        const char *text = g_hash_table_lookup(query, name);

        return text && (g_str_equal(text, "1") || g_str_equal(text, "true"));
}
