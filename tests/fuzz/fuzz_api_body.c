/* tests/fuzz/fuzz_api_body.c - a POST's body on its way to an act: text gate, parser, field tables. */
#include <stdint.h>

#include "host-service/api/call.h"
#include "host-service/api/refusal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        g_autofree char *text = g_strndup((const char *)data, size);
        g_autoptr(JsonParser) parser = json_parser_new_immutable();
        JsonNode *root;

        if (json_text_refusal((const char *)data, size) ||
            !json_parser_load_from_data(parser, text, (gssize)size, NULL))
                return 0;
        root = json_parser_get_root(parser);
        if (!root || !JSON_NODE_HOLDS_OBJECT(root))
                return 0;
        for (guint i = 0; i < api_route_count; i++) {
                const struct api_route *r = &api_routes[i];
                g_autofree char *why = fields_refusal(json_node_get_object(root), r->body);
                g_autofree char *more = !why && r->refusal ? r->refusal(json_node_get_object(root)) : NULL;

                if ((why && !g_utf8_validate(why, -1, NULL)) || (more && !g_utf8_validate(more, -1, NULL)))
                        __builtin_trap();
        }
        return 0;
}
