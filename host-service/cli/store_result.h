/* host-service/cli/store_result.h - what a look at the store, or its garbage collection, has come to, in
 * plain words. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/cli/cli.h"

/* One finding of a verification: what, which file, whom it affects, what to do. */
void finding_print(Cli *cli, JsonObject *finding);

/* Of an ended operation with a result. FALSE: it is of another kind, or has none: nothing was printed. */
gboolean store_result_print(Cli *cli, JsonObject *operation);
