/* guest-agent/stale.h - who still runs old code: the report (docs/upgrade-transaction.md, "Who still runs old
 * code").
 *
 * Looking is one thing (stale_scan.h), the report another: what there is more than fits is counted, and files
 * that were put aside are given the names that they had. Blocks; for a worker thread or a command. */
#pragma once

#include "guest-agent/upgrade/kept.h"
#include "proto/channel.pb-c.h"

/* About the generation that @push_id (16 bytes) made or took back; NULL: the newest committed one. Freed with
 * stale_report_free(). */
Moult__StaleReport *stale_look(Upgrade *u, const guint8 *push_id, GError **error);
/* Restarts those units of the release that were found stale, then looks again. The restarts are in the
 * report; one that fails ends nothing. */
Moult__StaleReport *stale_look_after_restarts(Upgrade *u, const guint8 *push_id, GError **error);
void stale_report_free(Moult__StaleReport *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Moult__StaleReport, stale_report_free)
