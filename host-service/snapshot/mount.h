/* host-service/snapshot/mount.h - runs the operations "snapshot-mount" and "snapshot-unmount": disks of a
 * restore point, read-only, over NBD at Unix sockets. docs/snapshots.md, *Mount*.
 *
 * A mount is in memory: it ends with moultd, however that ends, and nothing of it is left. Until then its
 * layers have references, and its restore point is not removed. All calls from the loop. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/jobs/jobs.h"
#include "host-service/snapshot/layer_refs.h"

typedef struct SnapshotMounts SnapshotMounts;

/* Registers its kinds; the request of a mount is {"vm", "snapshot": its id, "disk", "scratch"}, of which the
 * last two may be missing, that of an unmount {"vm", "snapshot"}: without the latter all of the VM's. @dir:
 * for the sockets, nobody else's; @group: whose members may connect, NULL: moultd's. @objects may be NULL. */
SnapshotMounts *snapshot_mounts_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                    ObjectStore *objects, LayerRefs *refs, const char *dir,
                                    const char *group);
/* Before jobs_begin(): sockets of an earlier moultd go. */
gboolean snapshot_mounts_begin(SnapshotMounts *m, GError **error);
/* All mounts end; what is not mounted yet is begun anew by the next moultd. */
void snapshot_mounts_free(SnapshotMounts *m);

/* Whether the restore point with this id is mounted. */
gboolean snapshot_mounts_has(const SnapshotMounts *m, const char *snapshot);
/* Those there are, oldest first. */
JsonArray *snapshot_mounts_to_json(const SnapshotMounts *m);
