/* host-service/snapshot/verify.h - the job kind "snapshot-verify": whether every restore point can be had,
 * from the store and from files here. docs/snapshots.md, *Verify*. Nothing is changed. */
#pragma once

#include "host-service/jobs/jobs.h"
#include "host-service/snapshot/layer_refs.h"

typedef struct SnapshotVerifies SnapshotVerifies;

/* Registers the kind; request {"vm" (may be missing: of all VMs), "snapshot": ID (may be missing: all of the
 * VM), "deep": boolean, "scratch": an absolute directory for what --deep rebuilds (may be missing: "scratch"
 * beside the catalogue)}. All must outlive it. */
SnapshotVerifies *snapshot_verifies_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                        LayerRefs *refs);
/* What runs stops; the next daemon begins it anew. */
void snapshot_verifies_free(SnapshotVerifies *v);
