/* host-service/api/yaml_json.h - a YAML document as JSON: the API's description is written in one, served in
 * the other. */
#pragma once

#include <json-glib/json-glib.h>

/* NULL if @text is not YAML, or uses more than JSON can say (anchors, keys that are no texts, deeper than
 * 64). */
JsonNode *yaml_to_json(const char *text, gsize len);
