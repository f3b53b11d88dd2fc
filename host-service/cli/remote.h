/* host-service/cli/remote.h - what several commands do with moultd's answers. */
#pragma once

#include "host-service/cli/client.h"
#include "host-service/cli/exit_code.h"

/* Member @name of an answer, as a node of its own; transfer full. CLI_ERROR_DAEMON if it is not there. */
JsonNode *remote_member(JsonNode *answer, const char *name, GError **error);
JsonNode *remote_get_member(Client *c, const char *path, const char *name, GError **error);

/* "NAME" or "NAME=VERSION" to the path of the release in the API; asks for the highest version where none is
 * named. */
char *remote_release_path(Client *c, const char *spec, GError **error);

/* The id of the operation that an answer has started; owned by the answer. */
const char *remote_operation_id(JsonNode *answer, GError **error);

/* Follows an operation that was just started, prints how it ended, and returns the exit code for it. With
 * @detach only says where to find it. */
ExitCode remote_finish(Cli *cli, Client *c, JsonNode *answer, gboolean detach, GError **error);

/* POSTs @body (taken) to @path, which answers with an operation, and remote_finish(). */
ExitCode remote_ask_for(Cli *cli, const char *path, JsonObject *body, gboolean detach, GError **error);
