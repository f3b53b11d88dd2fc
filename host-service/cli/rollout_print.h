/* host-service/cli/rollout_print.h - how a rollout is, in plain words. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/cli/cli.h"
#include "host-service/cli/exit_code.h"
#include "host-service/cli/progress.h"

/* NULL: @operation is no rollout. */
JsonObject *rollout_of(JsonObject *operation);
/* Nothing happens before somebody says so, or ever again. */
gboolean rollout_rests(JsonObject *rollout);
/* "rollout ID: stopped in wave 1 of 3: ..." and what to do; owned by the caller. */
char *rollout_words(JsonObject *rollout);
/* One line for the change that an event tells of. */
void rollout_show_progress(Progress *p, JsonObject *rollout);
/* The VMs that were not upgraded, each in its words, then the rollout's. */
void rollout_print(Cli *cli, JsonObject *rollout, JsonArray *pushes);
/* @of_pushes: the code of its pushes together. */
ExitCode rollout_exit_code(JsonObject *operation, JsonObject *rollout, ExitCode of_pushes);
