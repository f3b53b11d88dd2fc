/* host-service/snapshot/restore_point.h - a snapshot with all that its disks stand on, as the catalogue has
 * it. */
#pragma once

#include "host-service/catalogue/snapshots.h"
#include "host-service/layers/snapshot_manifest.h"
#include "host-service/snapshot/layer_line.h"

typedef struct restore_point {
        SnapshotRecord *s;
        GPtrArray *lines; /* for each disk, by number, a GPtrArray of LayerRecord: its own layer first */
        GHashTable *rows; /* that they are in, which restore points of a VM share */
} RestorePoint;
void restore_point_free(RestorePoint *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RestorePoint, restore_point_free)

/* Takes @s. MALFORMED, NOT_FOUND: the catalogue has not all of its layers. */
RestorePoint *restore_point_load(Catalogue *c, SnapshotRecord *s, GError **error);
/* All that are taken of the VM, or of all VMs (NULL), newest first. */
GPtrArray *restore_points_load(Catalogue *c, const char *vm, GError **error);

/* What the store has of it, or would have: layers whose upload is on record, the oldest first. WRONG_STATE: a
 * layer that it stands on is not in the store, by itself or as a part of another one. */
SnapshotManifest *restore_point_manifest(const RestorePoint *p, GError **error);
/* Appends the ids of all its layers to @ids (of texts, freed with it), for references (layer_refs.h). */
void restore_point_add_ids(const RestorePoint *p, GPtrArray *ids);
