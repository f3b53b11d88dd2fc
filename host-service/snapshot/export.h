/* host-service/snapshot/export.h - the job kind "snapshot-export": a restore point of a disk as a file of its
 * own, for other tools. */
#pragma once

#include "host-service/catalogue/snapshots.h"
#include "host-service/jobs/jobs.h"
#include "host-service/snapshot/layer_refs.h"

typedef struct SnapshotExports SnapshotExports;

/* Registers the kind; request {"vm", "snapshot": ID, "disk": id of a drive (may be missing if there is one),
 * "path": absolute, of a file that is not there}. @objects as in snapshot_uploads_new(). */
SnapshotExports *snapshot_exports_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                      ObjectStore *objects, LayerRefs *refs);
/* What runs stops; the next daemon begins it anew. */
void snapshot_exports_free(SnapshotExports *e);
