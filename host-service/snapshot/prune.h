/* host-service/snapshot/prune.h - the job kinds "snapshot-remove" and "snapshot-prune". docs/snapshots.md,
 * *Remove and prune*. */
#pragma once

#include "host-service/snapshot/mount.h"
#include "host-service/snapshot/snapshot_manager.h"

typedef struct SnapshotPrunes SnapshotPrunes;

/* Registers the kinds; request of a removal {"vm", "snapshot": ID, "name"}, of a prune {"vm", "keep_last",
 * "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly" (at least one), "dry_run"}. All must outlive it.
 */
SnapshotPrunes *snapshot_prunes_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                    SnapshotManager *manager, const SnapshotMounts *mounts);
/* What earlier moultds have left is removed; once, when all jobs were taken up again. */
void snapshot_prunes_begin(SnapshotPrunes *p);
void snapshot_prunes_free(SnapshotPrunes *p);
