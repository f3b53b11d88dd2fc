/* host-service/snapshot/snapshot_manager.h - runs the operations "snapshot-create" and "snapshot-merge"
 * (docs/snapshots.md).
 *
 * One at a time for each VM; whoever comes meanwhile waits. What an earlier moultd left is settled at the
 * start, before anything new. A create whose disks have no room for another file merges first, as a part of
 * its own operation. */
#pragma once

#include "host-service/catalogue/snapshots.h"
#include "host-service/guest_view.h"
#include "host-service/jobs/jobs.h"
#include "host-service/snapshot/layer_refs.h"
#include "host-service/snapshot/vm_turns.h"

typedef struct SnapshotManager SnapshotManager;

/* Registers its kinds; the request of a create is {"vm", "name", "quiesce", "require_quiesce", "disks": []},
 * of which all but "vm" may be missing, that of a merge {"vm", "by_itself": nobody has asked for it}. Before
 * jobs_begin(). All must outlive it; @guests is copied. */
SnapshotManager *snapshot_manager_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                      const struct guest_view *guests, VmTurns *turns);
/* What is under way is left as it is, for the next start. */
void snapshot_manager_free(SnapshotManager *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapshotManager, snapshot_manager_free)

/* @s was uploaded: adds an operation that merges those disks of its VM whose history and the layer above it
 * are both in the store now, if the catalogue knows of one. What hinders it is only told; the next upload
 * tries again. */
void snapshot_merge_after_upload(SnapshotManager *m, const SnapshotRecord *s);
/* Files that merges have left go, if nobody needs them (any more): once all jobs were taken up again, and
 * whenever a layer was uploaded or folded. From the loop. */
void snapshot_files_sweep(SnapshotManager *m);
/* A restore point of the VM was removed (NULL: at the start, when it is not known of which): what nobody
 * needs any more goes by the next sweep. */
void snapshot_layers_look(SnapshotManager *m, const char *vm);
/* Whoever reads the files of a layer, or reads another one against it, takes a reference meanwhile. */
LayerRefs *snapshot_layer_refs(SnapshotManager *m);
