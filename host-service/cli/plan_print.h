/* host-service/cli/plan_print.h - the plan of a push: for each path what would happen, and why. */
#pragma once

#include "host-service/cli/client.h"

/* Fetches the plan of one VM, page by page; an array of items, transfer full. */
JsonNode *plan_fetch(Client *c, const char *operation, const char *vm, GError **error);
/* A table; entries that need nothing are only counted. @only_problems: those that could be
 * applied are only counted too. */
void plan_print(Cli *cli, const char *vm, JsonArray *items, gboolean only_problems);
