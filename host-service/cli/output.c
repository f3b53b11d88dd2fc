/* host-service/cli/output.c - results as a table for people, or as JSON or YAML for programs. */
#include "host-service/cli/output.h"

#include <string.h>

#include "host-service/cli/exit_code.h"
#include "host-service/cli/text.h"

JsonNode *json_member(JsonObject *o, const char *dotted)
{
        g_auto(GStrv) parts = g_strsplit(dotted, ".", -1);
        JsonNode *n = NULL;

        for (unsigned i = 0; parts[i]; i++) {
                if (!o)
                        return NULL;
                n = json_object_get_member(o, parts[i]);
                o = n && JSON_NODE_HOLDS_OBJECT(n) ? json_node_get_object(n) : NULL;
        }
        return n;
}

const char *json_text(JsonObject *o, const char *dotted)
{
        JsonNode *n = json_member(o, dotted);

        return n && JSON_NODE_HOLDS_VALUE(n) && json_node_get_value_type(n) == G_TYPE_STRING
                       ? json_node_get_string(n)
                       : NULL;
}

gint64 json_number(JsonObject *o, const char *dotted)
{
        JsonNode *n = json_member(o, dotted);

        return n && JSON_NODE_HOLDS_VALUE(n) && json_node_get_value_type(n) != G_TYPE_STRING
                       ? json_node_get_int(n)
                       : 0;
}

gboolean json_flag(JsonObject *o, const char *dotted)
{
        JsonNode *n = json_member(o, dotted);

        return n && JSON_NODE_HOLDS_VALUE(n) && json_node_get_value_type(n) == G_TYPE_BOOLEAN &&
               json_node_get_boolean(n);
}

JsonObject *json_child(JsonObject *o, const char *dotted)
{
        JsonNode *n = json_member(o, dotted);

        return n && JSON_NODE_HOLDS_OBJECT(n) ? json_node_get_object(n) : NULL;
}

JsonArray *json_list(JsonObject *o, const char *dotted)
{
        JsonNode *n = json_member(o, dotted);

        return n && JSON_NODE_HOLDS_ARRAY(n) ? json_node_get_array(n) : NULL;
}

static char *array_text(JsonArray *a)
{
        GString *s = g_string_new(NULL);

        for (guint i = 0; i < json_array_get_length(a); i++) {
                JsonNode *n = json_array_get_element(a, i);
                const char *text = JSON_NODE_HOLDS_VALUE(n) && json_node_get_value_type(n) == G_TYPE_STRING
                                           ? json_node_get_string(n)
                                           : NULL;
                g_autofree char *other = text ? NULL : json_to_string(n, FALSE);

                g_string_append_printf(s, "%s%s", i ? ", " : "", text ? text : other);
        }
        return g_string_free(s, FALSE);
}

static char *plain_text(JsonNode *n)
{
        if (JSON_NODE_HOLDS_ARRAY(n))
                return array_text(json_node_get_array(n));
        if (JSON_NODE_HOLDS_OBJECT(n))
                return json_to_string(n, FALSE);
        if (json_node_get_value_type(n) == G_TYPE_STRING)
                return g_strdup(json_node_get_string(n));
        if (json_node_get_value_type(n) == G_TYPE_BOOLEAN)
                return g_strdup(json_node_get_boolean(n) ? "yes" : "no");
        return json_to_string(n, FALSE);
}

static char *cell_of_number(gint64 v, enum column_kind kind)
{
        switch (kind) {
        case COLUMN_BYTES:
                return text_bytes(v > 0 ? (uint64_t)v : 0);
        case COLUMN_MS:
                return text_duration_us(v > 0 ? (uint64_t)v * 1000 : 0);
        case COLUMN_US:
                return text_duration_us(v > 0 ? (uint64_t)v : 0);
        case COLUMN_TIME:
                return text_time(v);
        case COLUMN_MODE:
                return g_strdup_printf("%04o", (unsigned)v);
        default:
                return g_strdup_printf("%" G_GINT64_FORMAT, v);
        }
}

static char *cell_of_map(JsonObject *o)
{
        g_autoptr(GString) s = g_string_new(NULL);
        JsonObjectIter iter;
        const char *key;
        JsonNode *value;

        json_object_iter_init_ordered(&iter, o);
        while (json_object_iter_next_ordered(&iter, &key, &value)) {
                g_autofree char *text = plain_text(value);

                g_string_append_printf(s, "%s%s=%s", s->len ? " " : "", key, text);
        }
        return text_safe_lines(s->str);
}

char *output_cell(JsonObject *row, const struct column *column)
{
        JsonNode *n = json_member(row, column->member);

        if (!n || JSON_NODE_HOLDS_NULL(n))
                return g_strdup("");
        if (column->kind == COLUMN_COUNT && JSON_NODE_HOLDS_ARRAY(n))
                return g_strdup_printf("%u", json_array_get_length(json_node_get_array(n)));
        if (column->kind == COLUMN_MAP && JSON_NODE_HOLDS_OBJECT(n))
                return cell_of_map(json_node_get_object(n));
        if (JSON_NODE_HOLDS_VALUE(n) && json_node_get_value_type(n) == G_TYPE_INT64)
                return cell_of_number(json_node_get_int(n), column->kind);
        g_autofree char *text = plain_text(n);
        if (column->kind == COLUMN_TIME) {
                g_autoptr(GDateTime) utc = g_date_time_new_from_iso8601(text, NULL);

                if (utc)
                        return text_time(g_date_time_to_unix(utc));
        }
        if (column->kind == COLUMN_DIGEST && strlen(text) > 12)
                text[12] = '\0';
        /* What comes from outside was escaped when it became JSON or is escaped here; lines stay lines. */
        return text_safe_lines(text);
}

gboolean output_machine(Cli *cli, JsonNode *node)
{
        if (cli->format == CLI_FORMAT_TABLE)
                return FALSE;
        g_autofree char *text = cli->format == CLI_FORMAT_JSON ? output_json(node) : output_yaml(node);
        fputs(text, cli->out);
        return TRUE;
}

char *output_json(JsonNode *node)
{
        g_autofree char *text = json_to_string(node, TRUE);

        return g_strconcat(text, "\n", NULL);
}

void output_words(Cli *cli, const char *format, ...)
{
        va_list args;

        if (cli->format != CLI_FORMAT_TABLE)
                return;
        va_start(args, format);
        vfprintf(cli->out, format, args);
        va_end(args);
}

static void pad(GString *line, const char *cell, glong width)
{
        g_string_append(line, cell);
        for (glong have = g_utf8_strlen(cell, -1); have < width; have++)
                g_string_append_c(line, ' ');
}

static void print_line(FILE *f, GString *line)
{
        while (line->len > 0 && line->str[line->len - 1] == ' ')
                g_string_truncate(line, line->len - 1);
        fprintf(f, "%s\n", line->str);
        g_string_truncate(line, 0);
}

static void print_table(FILE *f, JsonArray *rows, const struct column *columns)
{
        guint n_rows = json_array_get_length(rows), n_columns = 0;

        while (columns[n_columns].title)
                n_columns++;
        g_autofree glong *width = g_new0(glong, n_columns);
        g_autoptr(GPtrArray) cells = g_ptr_array_new_with_free_func(g_free);
        for (guint c = 0; c < n_columns; c++) {
                width[c] = (glong)strlen(columns[c].title);
                for (guint r = 0; r < n_rows; r++) {
                        JsonNode *row = json_array_get_element(rows, r);
                        JsonObject *o = JSON_NODE_HOLDS_OBJECT(row) ? json_node_get_object(row) : NULL;
                        char *cell = o ? output_cell(o, &columns[c]) : g_strdup("");

                        g_strdelimit(cell, "\n\t", ' ');
                        width[c] = MAX(width[c], g_utf8_strlen(cell, -1));
                        g_ptr_array_add(cells, cell);
                }
        }
        g_autoptr(GString) line = g_string_new(NULL);
        for (guint c = 0; c < n_columns; c++)
                pad(line, columns[c].title, width[c] + 2);
        print_line(f, line);
        for (guint r = 0; r < n_rows; r++) {
                for (guint c = 0; c < n_columns; c++)
                        pad(line, g_ptr_array_index(cells, c * n_rows + r), width[c] + 2);
                print_line(f, line);
        }
}

gboolean output_list(Cli *cli, JsonNode *node, const struct column *columns, const char *empty,
                     GError **error)
{
        if (output_machine(cli, node))
                return TRUE;
        if (!JSON_NODE_HOLDS_ARRAY(node)) {
                g_set_error(error, CLI_ERROR, CLI_ERROR_DAEMON,
                            "moultd answered with something that is no list");
                return FALSE;
        }
        if (json_array_get_length(json_node_get_array(node)) == 0)
                fprintf(cli->out, "%s\n", empty);
        else
                print_table(cli->out, json_node_get_array(node), columns);
        return TRUE;
}

static void print_field(FILE *f, const char *title, int width, const char *text)
{
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

        for (unsigned i = 0; lines[i]; i++) {
                if (i > 0 && !*lines[i] && !lines[i + 1])
                        break;
                fprintf(f, "%-*s  %s\n", width, i == 0 ? title : "", lines[i]);
        }
}

gboolean output_object(Cli *cli, JsonNode *node, const struct column *columns, GError **error)
{
        int width = 0;

        if (output_machine(cli, node))
                return TRUE;
        if (!JSON_NODE_HOLDS_OBJECT(node)) {
                g_set_error(error, CLI_ERROR, CLI_ERROR_DAEMON,
                            "moultd answered with something that is no object");
                return FALSE;
        }
        for (const struct column *c = columns; c->title; c++)
                width = MAX(width, (int)strlen(c->title) + 1);
        for (const struct column *c = columns; c->title; c++) {
                g_autofree char *cell = output_cell(json_node_get_object(node), c);
                g_autofree char *title = g_strconcat(c->title, ":", NULL);

                if (*cell)
                        print_field(cli->out, title, width, cell);
        }
        return TRUE;
}
