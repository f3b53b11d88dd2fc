/* host-service/cli/labels.c - the option --label. moultd says which characters it takes. */
#include "host-service/cli/labels.h"

#include <string.h>

#include "host-service/cli/client.h"
#include "host-service/cli/command.h"

JsonObject *labels_to_json(const char *const *labels, GError **error)
{
        g_autoptr(JsonObject) o = json_object_new();

        for (; labels && *labels; labels++) {
                const char *sign = strchr(*labels, '=');
                g_autofree char *key = sign ? g_strndup(*labels, (gsize)(sign - *labels)) : NULL;

                if (!key || !*key || !sign[1]) {
                        command_usage_error(error, "--label is KEY=VALUE, as in --label role=web; not '%s'",
                                            *labels);
                        return NULL;
                }
                if (json_object_has_member(o, key)) {
                        command_usage_error(error, "--label %s is given twice", key);
                        return NULL;
                }
                json_object_set_string_member(o, key, sign + 1);
        }
        return g_steal_pointer(&o);
}

char *labels_path(const char *path, const char *const *labels, GError **error)
{
        g_autoptr(JsonObject) checked = labels_to_json(labels, error);
        g_autofree char *all = NULL, *query = NULL;

        if (!checked)
                return NULL;
        if (!labels || !*labels)
                return g_strdup(path);
        all = g_strjoinv(",", (char **)(gpointer)labels);
        query = client_path("?label=%s", all);
        return g_strconcat(path, query, NULL);
}
