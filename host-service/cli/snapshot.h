/* host-service/cli/snapshot.h - what a snapshot has come to, in plain words. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/cli/cli.h"

/* Of an operation that has succeeded. FALSE: it is of another kind: nothing was printed. */
gboolean snapshot_result_print(Cli *cli, JsonObject *operation);
/* What a removal or a prune (@kind) has come to. FALSE: it is none: nothing was printed. */
gboolean snapshot_prune_print(Cli *cli, const char *kind, JsonObject *result);
/* --keep-last and so on: which restore points stay. */
struct snapshot_keep {
        int n[5];
};
#define SNAPSHOT_KEEP_OPTIONS 5
/* Fills as many entries. */
void snapshot_keep_entries(GOptionEntry *entries, struct snapshot_keep *keep);
/* As members of a request. */
void snapshot_keep_add(JsonObject *body, const struct snapshot_keep *keep);
/* What a mount or unmount (@kind) has come to. FALSE: it is none: nothing was printed. */
gboolean snapshot_mount_print(Cli *cli, const char *kind, JsonObject *result);
/* Of a verification that has ended, whatever it has found; of others: nothing. */
void snapshot_verify_print(Cli *cli, JsonObject *operation);
