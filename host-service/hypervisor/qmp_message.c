/* host-service/hypervisor/qmp_message.c - QMP's bytes to messages. */
#include "host-service/hypervisor/qmp_message.h"

#include <string.h>

#include "common/error.h"

struct QmpLines {
        GByteArray *buffer;
        gsize seen; /* bytes of the buffer that hold no line end */
};

QmpLines *qmp_lines_new(void)
{
        QmpLines *l = g_new0(QmpLines, 1);

        l->buffer = g_byte_array_new();
        return l;
}

void qmp_lines_free(QmpLines *l)
{
        if (!l)
                return;
        g_byte_array_unref(l->buffer);
        g_free(l);
}

gboolean qmp_lines_push(QmpLines *l, const char *data, gsize len, GError **error)
{
        const char *end = len ? memrchr(data, '\n', len) : NULL;
        gsize tail = end ? (gsize)(data + len - end - 1) : len + l->buffer->len;

        /* Whole lines are checked one by one when pulled; here only what is held without an end counts, and
         * what one push may bring (callers read in blocks far below the bound). */
        if (tail > QMP_LINE_MAX || len > QMP_LINE_MAX || l->buffer->len > 2 * QMP_LINE_MAX) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "the monitor sent a line of more than %u bytes", QMP_LINE_MAX);
                return FALSE;
        }
        g_byte_array_append(l->buffer, (const guint8 *)data, (guint)len);
        return TRUE;
}

char *qmp_lines_pull(QmpLines *l, gsize *ret_len)
{
        for (;;) {
                const char *start = (const char *)l->buffer->data;
                const char *end = l->buffer->len > l->seen
                                          ? memchr(start + l->seen, '\n', l->buffer->len - l->seen)
                                          : NULL;
                gsize taken, len;
                char *line;

                if (!end) {
                        l->seen = l->buffer->len;
                        return NULL;
                }
                taken = (gsize)(end - start) + 1;
                len = taken - 1;
                while (len > 0 && (start[len - 1] == '\r' || start[len - 1] == ' '))
                        len--;
                line = len > 0 ? g_strndup(start, len) : NULL;
                g_byte_array_remove_range(l->buffer, 0, (guint)taken);
                l->seen = 0;
                if (line) {
                        *ret_len = len;
                        return line;
                }
        }
}

/* NULL, or why json-glib may not see this line. */
static const char *line_refusal(const char *line, gsize len)
{
        gboolean in_string = FALSE;
        unsigned depth = 0;

        if (memchr(line, '\0', len))
                return "it holds a NUL byte";
        for (gsize i = 0; i < len; i++) {
                if (in_string) {
                        if (line[i] == '\\')
                                i++;
                        else if (line[i] == '"')
                                in_string = FALSE;
                } else if (line[i] == '"') {
                        in_string = TRUE;
                } else if (line[i] == '[' || line[i] == '{') {
                        if (++depth > QMP_DEPTH_MAX)
                                return "it is nested too deeply";
                } else if ((line[i] == ']' || line[i] == '}') && depth > 0) {
                        depth--;
                } else if (line[i] == '/' || line[i] == '\'') {
                        /* json-glib's scanner knows comments and other quotes, behind which brackets could
                         * hide. */
                        return "it is not JSON";
                }
        }
        return NULL;
}

JsonObject *qmp_object(JsonNode *node)
{
        return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

JsonArray *qmp_array(JsonNode *node)
{
        return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
}

JsonNode *qmp_member(JsonObject *o, const char *name)
{
        return o ? json_object_get_member(o, name) : NULL;
}

const char *qmp_string(JsonObject *o, const char *name)
{
        JsonNode *n = qmp_member(o, name);

        return n && JSON_NODE_HOLDS_VALUE(n) && json_node_get_value_type(n) == G_TYPE_STRING
                       ? json_node_get_string(n)
                       : NULL;
}

gboolean qmp_int(JsonObject *o, const char *name, gint64 *ret)
{
        JsonNode *n = qmp_member(o, name);

        if (!n || !JSON_NODE_HOLDS_VALUE(n) || json_node_get_value_type(n) != G_TYPE_INT64)
                return FALSE;
        *ret = json_node_get_int(n);
        return TRUE;
}

QmpMessage *qmp_message_parse(const char *line, gsize len, GError **error)
{
        g_autoptr(JsonParser) parser = NULL;
        g_autoptr(QmpMessage) m = NULL;
        const char *why = line_refusal(line, len);
        JsonObject *o, *e;
        JsonNode *data;
        gint64 id = 0;

        if (why) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "a line from the monitor was refused: %s", why);
                return NULL;
        }
        parser = json_parser_new_immutable();
        if (!json_parser_load_from_data(parser, line, (gssize)len, error)) {
                g_prefix_error(error, "a line from the monitor is not JSON: ");
                if (error && *error && (*error)->domain != MOULT_ERROR) {
                        (*error)->domain = MOULT_ERROR;
                        (*error)->code = MOULT_ERROR_MALFORMED;
                }
                return NULL;
        }
        o = qmp_object(json_parser_get_root(parser));
        m = g_new0(QmpMessage, 1);
        if (qmp_int(o, "id", &id) && id > 0)
                m->id = (guint64)id;
        if (qmp_object(qmp_member(o, "QMP"))) {
                m->kind = QMP_GREETING;
        } else if (qmp_string(o, "event")) {
                m->kind = QMP_EVENT;
                m->name = g_strdup(qmp_string(o, "event"));
                data = qmp_member(o, "data");
                m->data = qmp_object(data) ? json_node_ref(data) : NULL;
        } else if ((e = qmp_object(qmp_member(o, "error")))) {
                m->kind = QMP_ERROR;
                m->name = g_strdup(qmp_string(e, "class") ?: "GenericError");
                m->text = g_utf8_make_valid(qmp_string(e, "desc") ?: "no description", -1);
        } else if ((data = qmp_member(o, "return"))) {
                m->kind = QMP_RETURN;
                m->data = json_node_ref(data);
        } else {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "a line from the monitor is neither greeting, answer nor event");
                return NULL;
        }
        return g_steal_pointer(&m);
}

void qmp_message_free(QmpMessage *m)
{
        if (!m)
                return;
        g_free(m->name);
        g_free(m->text);
        g_clear_pointer(&m->data, json_node_unref);
        g_free(m);
}

char *qmp_command_line(const char *command, JsonObject *arguments, guint64 id)
{
        g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
        JsonObject *o = json_object_new();
        g_autofree char *text = NULL;

        json_object_set_string_member(o, "execute", command);
        if (arguments)
                json_object_set_object_member(o, "arguments", json_object_ref(arguments));
        if (id > 0)
                json_object_set_int_member(o, "id", (gint64)id);
        json_node_take_object(root, o);
        text = json_to_string(root, FALSE);
        return g_strconcat(text, "\n", NULL);
}
