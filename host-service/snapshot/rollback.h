/* host-service/snapshot/rollback.h - the job kind "snapshot-rollback": a VM gets the disks of a restore
 * point; one that runs is reset. docs/snapshots.md, *Roll back*.
 *
 * Theory of operation: the disks' present tops become layers of a new snapshot, "before"; the restore point's
 * layer, of which all files are here or are fetched, gets an empty top of its own for each disk; then the
 * disks' paths become names of these. Until the first path is given away nothing has happened; from then on
 * it is brought to its end, by the next moultd too: which of both is true is read from the paths. Of a VM
 * that runs, QEMU is switched as well, while its processors stand; there both, what QEMU has open and the
 * paths, tell whether something has happened. */
#pragma once

#include "host-service/catalogue/snapshots.h"
#include "host-service/guest_view.h"
#include "host-service/jobs/jobs.h"
#include "host-service/snapshot/layer_refs.h"
#include "host-service/snapshot/vm_turns.h"

typedef struct SnapshotRollbacks SnapshotRollbacks;

/* A rollback is over: what waited for that goes on. From inside of its end. */
typedef void (*snapshot_rollback_over_func)(gpointer user);

/* Registers the kind; request {"vm", "snapshot": ID, "restart"}, the last may
 * be missing. All must outlive it; @guests is copied. */
SnapshotRollbacks *snapshot_rollbacks_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                          const struct guest_view *guests, VmTurns *turns, LayerRefs *refs);
/* One of the VM has begun (its turn has come, or an earlier moultd had begun it): nothing is pushed to it. */
gboolean snapshot_rollbacks_has(const SnapshotRollbacks *r, const char *vm);
void snapshot_rollbacks_set_over(SnapshotRollbacks *r, snapshot_rollback_over_func over, gpointer user);
/* What runs stops; the next daemon goes on from what is there. */
void snapshot_rollbacks_free(SnapshotRollbacks *r);
