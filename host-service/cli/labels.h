/* host-service/cli/labels.h - the option --label KEY=VALUE, which may be given several times. */
#pragma once

#include <json-glib/json-glib.h>

/* An object of texts; @labels NULL is none. NULL with a usage error for what is not KEY=VALUE, or a key named
 * twice. */
JsonObject *labels_to_json(const char *const *labels, GError **error);
/* @path, with the query parameter "label" if there are labels. NULL with a usage error. */
char *labels_path(const char *path, const char *const *labels, GError **error);
