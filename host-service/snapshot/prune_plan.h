/* host-service/snapshot/prune_plan.h - which restore points of a VM stay, by a policy. Pure.
 *
 * As restic and borg users know it: each rule goes from the newest restore point to the oldest, and keeps the
 * newest of each of the last N hours (days, weeks from Monday on, months) that have any, by the calendar in
 * local time; if there are fewer than N, the oldest stays, too. What any rule keeps stays. The newest always
 * does, and what something needs. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/catalogue/snapshots.h"

#define SNAPSHOT_KEEP_MAX 100000 /* of one rule */

enum prune_rule { PRUNE_LAST, PRUNE_HOURLY, PRUNE_DAILY, PRUNE_WEEKLY, PRUNE_MONTHLY, PRUNE_RULES };
struct prune_policy {
        guint keep[PRUNE_RULES]; /* 0: no such rule */
};
const char *prune_rule_name(enum prune_rule r); /* "last", "hourly"... */
/* From a request's "keep_last", "keep_hourly"...; what is missing is 0. Pure. */
struct prune_policy prune_policy_from_json(JsonObject *o);
gboolean prune_policy_is_empty(const struct prune_policy *p);

struct prune_verdict {
        const SnapshotRecord *s;
        GPtrArray *reasons; /* why it stays: texts; none: it goes */
};
/* @snapshots: of SnapshotRecord, the newest first, all taken; must outlive the result. @needed: id -> why it
 * cannot go, or NULL. @zone: of the calendar. Of struct prune_verdict, in the same order. */
GPtrArray *prune_plan(const GPtrArray *snapshots, const struct prune_policy *policy, GHashTable *needed,
                      GTimeZone *zone);
