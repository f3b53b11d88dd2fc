/* host-service/api/openapi.c - the API's own description, compiled in from docs/openapi.yaml. */
#include "host-service/api/call.h"
#include "host-service/api/yaml_json.h"

/* The file's bytes, with labels around them. */
__asm__(".section .rodata\n"
        ".global moult_openapi_begin\n"
        "moult_openapi_begin:\n"
        ".incbin \"" MOULT_OPENAPI_FILE "\"\n"
        ".global moult_openapi_end\n"
        "moult_openapi_end:\n"
        ".byte 0\n"
        ".text\n");
extern const char moult_openapi_begin[], moult_openapi_end[];

gboolean api_openapi_get(struct api_call *call, GError **error)
{
        g_autoptr(JsonNode) node =
                yaml_to_json(moult_openapi_begin, (gsize)(moult_openapi_end - moult_openapi_begin));

        g_assert(node && JSON_NODE_HOLDS_OBJECT(node)); /* our own file; a test reads it */
        call_answer(call, SOUP_STATUS_OK, json_object_ref(json_node_get_object(node)));
        return TRUE;
}
