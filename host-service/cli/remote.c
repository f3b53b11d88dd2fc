/* host-service/cli/remote.c - what several commands do with moultd's answers. */
#include "host-service/cli/remote.h"

#include <string.h>

#include "common/error.h"
#include "host-service/cli/follow.h"
#include "host-service/cli/output.h"
#include "host-service/cli/push_result.h"

JsonNode *remote_member(JsonNode *answer, const char *name, GError **error)
{
        JsonObject *o = answer && JSON_NODE_HOLDS_OBJECT(answer) ? json_node_get_object(answer) : NULL;
        JsonNode *member = o ? json_object_get_member(o, name) : NULL;

        if (member)
                return json_node_copy(member);
        g_set_error(error, CLI_ERROR, CLI_ERROR_DAEMON,
                    "moultd's answer has no \"%s\": it is of another version than this command", name);
        return NULL;
}

JsonNode *remote_get_member(Client *c, const char *path, const char *name, GError **error)
{
        g_autoptr(JsonNode) answer = client_get(c, path, error);

        return answer ? remote_member(answer, name, error) : NULL;
}

char *remote_release_path(Client *c, const char *spec, GError **error)
{
        const char *equals = strchr(spec, '=');
        g_autofree char *name = equals ? g_strndup(spec, (gsize)(equals - spec)) : g_strdup(spec);

        if (!*name || strchr(spec, '/') || (equals && !equals[1])) {
                g_set_error(error, CLI_ERROR, CLI_ERROR_USAGE,
                            "'%s' is not a release: write NAME or NAME=VERSION", spec);
                return NULL;
        }
        if (equals)
                return client_path("/v1/releases/%s/%s", name, equals + 1);
        g_autofree char *list_path = client_path("/v1/releases?name=%s", name);
        g_autoptr(JsonNode) list = remote_get_member(c, list_path, "releases", error);
        if (!list)
                return NULL;
        JsonNode *first = JSON_NODE_HOLDS_ARRAY(list) && json_array_get_length(json_node_get_array(list)) > 0
                                  ? json_array_get_element(json_node_get_array(list), 0)
                                  : NULL;
        const char *version = first && JSON_NODE_HOLDS_OBJECT(first)
                                      ? json_text(json_node_get_object(first), "version")
                                      : NULL;
        if (version)
                return client_path("/v1/releases/%s/%s", name, version);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                    "moultd has no release %s; 'moult release list' shows what it has, 'moult release import "
                    "FILE' "
                    "adds one",
                    name);
        return NULL;
}

const char *remote_operation_id(JsonNode *answer, GError **error)
{
        JsonObject *o = operation_of(answer);
        const char *id = o ? json_text(o, "id") : NULL;

        if (!id)
                g_set_error(error, CLI_ERROR, CLI_ERROR_DAEMON, "moultd's answer names no job");
        return id;
}

ExitCode remote_finish(Cli *cli, Client *c, JsonNode *answer, gboolean detach, GError **error)
{
        const char *id = remote_operation_id(answer, error);

        if (!id)
                return EXIT_CODE_INTERNAL;
        if (detach) {
                g_autoptr(JsonNode) operation = remote_member(answer, "operation", error);

                if (operation && !output_machine(cli, operation))
                        output_words(cli, "job %s runs; 'moult jobs wait %s' follows it\n", id, id);
                return EXIT_CODE_OK;
        }
        g_autoptr(JsonNode) end = follow_operation(cli, c, id, error);
        g_autoptr(JsonNode) operation = end ? remote_member(end, "operation", error) : NULL;
        if (!operation)
                return EXIT_CODE_INTERNAL;
        operation_print(cli, operation);
        return operation_exit_code(operation);
}

ExitCode remote_ask_for(Cli *cli, const char *path, JsonObject *body, gboolean detach, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        g_autoptr(JsonNode) answer = client_post(c, path, body, NULL, error);

        return answer ? remote_finish(cli, c, answer, detach, error) : EXIT_CODE_INTERNAL;
}
