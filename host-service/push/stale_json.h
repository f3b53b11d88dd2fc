/* host-service/push/stale_json.h - a guest's report of who still runs old code, as the JSON that the
 * catalogue keeps with the push and the API gives on. Every text in it is the guest's: escaped. */
#pragma once

#include "proto/channel.pb-c.h"

/* The caller frees. */
char *stale_json_text(const Moult__StaleReport *r);
/* Nobody knows, and why. */
char *stale_json_unknown(const char *why);
