/* host-service/snapshot/prune_needs.h - restore points that something needs: the present disks, jobs. */
#pragma once

#include "host-service/catalogue/catalogue.h"

/* @snapshots: of SnapshotRecord, all of a VM, the newest first. id -> why, a text; for those that nothing
 * needs there is none. NULL with @error. */
GHashTable *prune_needs(Catalogue *c, const GPtrArray *snapshots, GError **error);
