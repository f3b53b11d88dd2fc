/* guest-agent/stale_report.h - what a look found, as the message that travels: bounded.
 */
#pragma once

#include "guest-agent/stale_scan.h"
#include "proto/channel.pb-c.h"

/* A unit of the release that was restarted, or could not be. */
struct stale_restart {
        char *unit, *error; /* error: NULL if it came up */
};

/* Freed with moult__stale_report__free_unpacked(). @restarts: of struct stale_restart, or NULL. */
Moult__StaleReport *stale_report_new(const StaleScan *scan, const GPtrArray *restarts);
