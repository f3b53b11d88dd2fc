/* host-service/catalogue/counts.h - how much of everything the catalogue has, for /metrics. */
#pragma once

#include "host-service/catalogue/drift.h"
#include "host-service/catalogue/operations.h"
#include "host-service/catalogue/pushes.h"

struct catalogue_counts {
        gint64 vms, releases;
        gint64 release_bytes;                   /* of all packs, without padding */
        gint64 pushes[PUSH_STATE_MAX];          /* unfinished, by state */
        gint64 operations[OPERATION_STATE_MAX]; /* unfinished, by state */
        gint64 drift[DRIFT_STATE_MAX];          /* VMs, by what their last check found */
        gint64 file_bytes;                      /* of the database, without its journal */
        gint64 events;                          /* ever */
        gint64 schedules, schedules_failing;    /* of snapshots; those whose last one has not gone well */
};

gboolean catalogue_count(Catalogue *c, struct catalogue_counts *ret, GError **error);
/* Events of this type that came after @after, up to @until. */
gint64 catalogue_event_count(Catalogue *c, const char *type, gint64 after, gint64 until);
/* The pushes that have ended after event @after, oldest first; *ret_last: where to go on. */
GPtrArray *catalogue_push_list_ended(Catalogue *c, gint64 after, gint64 *ret_last, GError **error);
