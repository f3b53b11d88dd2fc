/* host-service/cli/push_result.h - what became of a push, in plain words and as an exit code. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/cli/cli.h"
#include "host-service/cli/exit_code.h"
#include "host-service/cli/progress.h"

/* The operation in an answer of the API, with or without an "operation" around it; NULL if there is none. */
JsonObject *operation_of(JsonNode *answer);
/* Its pushes, or NULL. */
JsonArray *operation_pushes(JsonNode *answer);

/* One line of progress from a push (one VM) or from an operation without pushes. */
void push_show_progress(Progress *p, JsonObject *push);
void operation_show_progress(Progress *p, JsonObject *operation);

/* Of one VM; pure. OK while it is not final. */
ExitCode push_exit_code(JsonObject *push);
/* Of the whole final operation; pure. */
ExitCode operation_exit_code(JsonNode *answer);

/* What happened to one VM, why, and what to do next; several lines, ending in a newline. Pure; owned. */
char *push_words(JsonObject *push);
/* Prints the whole outcome in the format asked for. */
void operation_print(Cli *cli, JsonNode *answer);
