/* host-service/snapshot/upload.h - the job kind "snapshot-upload": a snapshot into the store.
 * docs/snapshots.md, *Upload*.
 *
 * Theory of operation: the plan (upload_plan.h) is made when the job begins, from what is on record then;
 * each layer of it is an upload of its own (layers/layer_task.h), whose end is written to the catalogue at
 * once; the manifest comes last. So whatever interrupts it, it is begun anew and does what is left. One VM's
 * uploads run one after the other, in the order of their snapshots: what an earlier one has not brought there
 * when it has ended is folded into the next. A store that is down, slow or full of errors is tried again for
 * a day. */
#pragma once

#include "host-service/catalogue/snapshots.h"
#include "host-service/jobs/jobs.h"
#include "host-service/snapshot/snapshot_manager.h"

typedef struct SnapshotUploads SnapshotUploads;

/* Adds such a job for what was just taken, if there is a store. One that cannot be added is logged: the
 * next snapshot takes its content along. */
void snapshot_upload_begin(const struct host_env *env, Jobs *jobs, const SnapshotRecord *s);

/* Registers the kind; request {"vm", "snapshot": ID, "rate": bytes per second, which may be missing}.
 * @objects: the shared store; NULL: there is none, and the jobs fail. @merges: each one that ends well is
 * followed by snapshot_merge_after_upload(). All must outlive it. */
SnapshotUploads *snapshot_uploads_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                      ObjectStore *objects, SnapshotManager *manager, gboolean merges);
/* What runs stops; the next daemon begins it anew. */
void snapshot_uploads_free(SnapshotUploads *u);
