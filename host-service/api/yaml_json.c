/* host-service/api/yaml_json.c - YAML events to a JSON tree. */
#include "host-service/api/yaml_json.h"

#include <string.h>
#include <yaml.h>

#define DEPTH_MAX 64

static JsonNode *scalar_node(const yaml_node_t *n)
{
        JsonNode *node = json_node_new(JSON_NODE_VALUE);
        const char *text = (const char *)n->data.scalar.value;
        gint64 number;

        if (n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
                if (g_str_equal(text, "true") || g_str_equal(text, "false")) {
                        json_node_set_boolean(node, text[0] == 't');
                        return node;
                }
                if (g_str_equal(text, "null") || text[0] == '\0')
                        return json_node_init_null(node);
                if (g_ascii_string_to_signed(text, 10, G_MININT64, G_MAXINT64, &number, NULL)) {
                        json_node_set_int(node, number);
                        return node;
                }
        }
        json_node_set_string(node, text);
        return node;
}

static JsonNode *convert(yaml_document_t *doc, const yaml_node_t *n, int depth);

static JsonNode *sequence_node(yaml_document_t *doc, const yaml_node_t *n, int depth)
{
        g_autoptr(JsonArray) a = json_array_new();
        JsonNode *node;

        for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
                JsonNode *e = convert(doc, yaml_document_get_node(doc, *i), depth + 1);

                if (!e)
                        return NULL;
                json_array_add_element(a, e);
        }
        node = json_node_new(JSON_NODE_ARRAY);
        json_node_set_array(node, a);
        return node;
}

static JsonNode *mapping_node(yaml_document_t *doc, const yaml_node_t *n, int depth)
{
        g_autoptr(JsonObject) o = json_object_new();
        JsonNode *node;

        for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
                const yaml_node_t *key = yaml_document_get_node(doc, p->key);
                JsonNode *value = convert(doc, yaml_document_get_node(doc, p->value), depth + 1);

                if (!value)
                        return NULL;
                if (key->type != YAML_SCALAR_NODE) {
                        json_node_unref(value);
                        return NULL;
                }
                json_object_set_member(o, (const char *)key->data.scalar.value, value);
        }
        node = json_node_new(JSON_NODE_OBJECT);
        json_node_set_object(node, o);
        return node;
}

static JsonNode *convert(yaml_document_t *doc, const yaml_node_t *n, int depth)
{
        if (!n || depth > DEPTH_MAX)
                return NULL;
        switch (n->type) {
        case YAML_SCALAR_NODE:
                return scalar_node(n);
        case YAML_SEQUENCE_NODE:
                return sequence_node(doc, n, depth);
        case YAML_MAPPING_NODE:
                return mapping_node(doc, n, depth);
        default:
                return NULL;
        }
}

JsonNode *yaml_to_json(const char *text, gsize len)
{
        yaml_parser_t parser;
        yaml_document_t doc;
        JsonNode *node = NULL;

        if (!yaml_parser_initialize(&parser))
                return NULL;
        yaml_parser_set_input_string(&parser, (const guchar *)text, len);
        if (yaml_parser_load(&parser, &doc)) {
                node = convert(&doc, yaml_document_get_root_node(&doc), 0);
                yaml_document_delete(&doc);
        }
        yaml_parser_delete(&parser);
        return node;
}
