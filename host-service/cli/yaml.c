/* host-service/cli/yaml.c - a JSON tree as a YAML document, through libyaml's emitter.
 *
 * A string that another reader could take for a number, a date, a truth value or nothing is quoted. */
#include <string.h>
#include <yaml.h>

#include "common/error.h"
#include "host-service/cli/output.h"

static int append(void *data, unsigned char *buffer, size_t size)
{
        g_string_append_len(data, (const char *)buffer, (gssize)size);
        return 1;
}

static gboolean is_plain(const char *s)
{
        static const char *const taken[] = {"y",    "n",     "yes",  "no",  "on", "off",
                                            "true", "false", "null", "nan", "inf"};

        if (!g_ascii_isalpha(*s))
                return FALSE;
        for (unsigned i = 0; i < G_N_ELEMENTS(taken); i++)
                if (!g_ascii_strcasecmp(s, taken[i]))
                        return FALSE;
        for (; *s; s++)
                if (!g_ascii_isalnum(*s) && !strchr("_./+-", *s))
                        return FALSE;
        return TRUE;
}

static gboolean emit(yaml_emitter_t *e, yaml_event_t *event)
{
        return yaml_emitter_emit(e, event) == 1;
}

static gboolean emit_scalar(yaml_emitter_t *e, const char *text, yaml_scalar_style_t style)
{
        yaml_event_t event;

        return yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text, (int)strlen(text),
                                            1, 1, style) == 1 &&
               emit(e, &event);
}

static gboolean emit_string(yaml_emitter_t *e, const char *text)
{
        return emit_scalar(e, text,
                           is_plain(text) ? YAML_PLAIN_SCALAR_STYLE : YAML_DOUBLE_QUOTED_SCALAR_STYLE);
}

static gboolean emit_node(yaml_emitter_t *e, JsonNode *n);

static gboolean emit_array(yaml_emitter_t *e, JsonArray *a)
{
        yaml_event_t event;

        if (!yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE) ||
            !emit(e, &event))
                return FALSE;
        for (guint i = 0; i < json_array_get_length(a); i++)
                if (!emit_node(e, json_array_get_element(a, i)))
                        return FALSE;
        return yaml_sequence_end_event_initialize(&event) == 1 && emit(e, &event);
}

static gboolean emit_object(yaml_emitter_t *e, JsonObject *o)
{
        yaml_event_t event;
        JsonObjectIter iter;
        const char *name;
        JsonNode *value;

        if (!yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE) ||
            !emit(e, &event))
                return FALSE;
        json_object_iter_init_ordered(&iter, o);
        while (json_object_iter_next_ordered(&iter, &name, &value))
                if (!emit_string(e, name) || !emit_node(e, value))
                        return FALSE;
        return yaml_mapping_end_event_initialize(&event) == 1 && emit(e, &event);
}

/* Recursive, as deep as the tree; json-glib's parser has read it, or we have built it. */
static gboolean emit_node(yaml_emitter_t *e, JsonNode *n)
{
        if (JSON_NODE_HOLDS_OBJECT(n))
                return emit_object(e, json_node_get_object(n));
        if (JSON_NODE_HOLDS_ARRAY(n))
                return emit_array(e, json_node_get_array(n));
        if (JSON_NODE_HOLDS_NULL(n))
                return emit_scalar(e, "null", YAML_PLAIN_SCALAR_STYLE);
        if (json_node_get_value_type(n) == G_TYPE_STRING)
                return emit_string(e, json_node_get_string(n));
        g_autofree char *text = json_to_string(n, FALSE);
        return emit_scalar(e, text, YAML_PLAIN_SCALAR_STYLE);
}

char *output_yaml(JsonNode *node)
{
        GString *text = g_string_new(NULL);
        yaml_emitter_t e;
        yaml_event_t event;
        gboolean ok;

        yaml_emitter_initialize(&e);
        yaml_emitter_set_output(&e, append, text);
        yaml_emitter_set_unicode(&e, 1);
        yaml_emitter_set_width(&e, -1);
        ok = yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING) && emit(&e, &event) &&
             yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1) && emit(&e, &event) &&
             emit_node(&e, node) && yaml_document_end_event_initialize(&event, 1) && emit(&e, &event) &&
             yaml_stream_end_event_initialize(&event) && emit(&e, &event);
        if (!ok)
                g_string_printf(text, "# could not be written as YAML: %s; use --format json\n",
                                e.problem ? e.problem : "out of memory");
        yaml_emitter_delete(&e);
        return g_string_free(text, FALSE);
}
