/* host-service/snapshot/merge.h - history and the layer above it become one file, disk by disk.
 * docs/snapshots.md, *Merge into history*.
 *
 * Theory of operation: look what QEMU has, take up the merge that an earlier moultd left, or else the next
 * that there is to do, do it, and look again, until nothing is left. What has become of one that may be in
 * use is read from the files and from QEMU (merge_settle.h), also after a failure, and it goes on or back
 * from there. So a merge that is begun again needs nothing but its VM. */
#pragma once

#include "host-service/guest_view.h"
#include "host-service/snapshot/files_sweep.h"

typedef struct SnapshotMerge SnapshotMerge;

struct merge_result {
        guint merged;       /* disks */
        gboolean unsettled; /* with an error: something is half done, and has to be looked at again */
};
typedef enum {
        MERGE_ALL,    /* all of the VM's disks that stand on two layers of its own */
        MERGE_FULL,   /* only those that have no room for another file */
        MERGE_STORED, /* only those of which the store has both: their files go then */
} MergeWhich;

/* Once, from the loop. @error: the VM runs as before; disks that were merged before it stay so. */
typedef void (*snapshot_merged_func)(const struct merge_result *result, const GError *error, gpointer user);

/* Of @vm's disks. With MERGE_ALL, of a VM that is off, or has no QEMU that could be asked, those that a
 * snapshot was taken of; else such a one, or libvirt's, has none. All must outlive it but @vm. */
SnapshotMerge *snapshot_merge_new(const struct host_env *env, Catalogue *c, const struct guest_view *guests,
                                  LayerRefs *refs, FilesSweep *sweep, const char *vm, MergeWhich which,
                                  snapshot_merged_func done, gpointer user);
/* Stops where nothing has to be settled. */
void snapshot_merge_cancel(SnapshotMerge *m);
/* @done does not run any more. What is left is taken up by the next one. NULL is fine. */
void snapshot_merge_free(SnapshotMerge *m);
