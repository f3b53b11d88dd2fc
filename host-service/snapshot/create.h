/* host-service/snapshot/create.h - one snapshot being made, step by step. docs/snapshots.md, *Create*.
 *
 * Theory of operation: steps in a row, each of which ends in a callback: files in a worker thread, QEMU
 * through its monitor, the guest through its agent. One that fails before the switch leads into the way back.
 * One of which it is not known whether it was done, and a moultd that was restarted, ask what is there
 * (settle.h) and go on from that. */
#pragma once

#include "host-service/catalogue/snapshots.h"
#include "host-service/guest_view.h"

struct snapshot_options {
        gboolean quiesce;         /* try to */
        gboolean require_quiesce; /* no snapshot without */
        char **disks;             /* ids of drives; NULL: all that the guest can write to */
};

typedef struct SnapshotCreate SnapshotCreate;

/* Once, from the loop. @error: there is no snapshot; the VM runs as before. */
typedef void (*snapshot_created_func)(const SnapshotRecord *r, const GError *error, gpointer user);

/* @r (taken over) has id, vm and name; it is not in the catalogue yet. */
SnapshotCreate *snapshot_create_new(const struct host_env *env, Catalogue *c, const struct guest_view *guests,
                                    SnapshotRecord *r, const struct snapshot_options *options,
                                    snapshot_created_func done, gpointer user);
/* @r is in the catalogue, and not final: an earlier moultd made it. */
SnapshotCreate *snapshot_create_settle(const struct host_env *env, Catalogue *c,
                                       const struct guest_view *guests, SnapshotRecord *r,
                                       snapshot_created_func done, gpointer user);
/* Stops where it is, if it can still be stopped: before the switch. */
void snapshot_create_cancel(SnapshotCreate *s);
/* @done does not run any more. What is left is settled by the next start. */
void snapshot_create_free(SnapshotCreate *s);
