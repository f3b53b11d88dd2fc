/* host-service/snapshot/upload_plan.h - what has to be brought into the store for a snapshot, in which order.
 *
 * All that its disks stand on and that the store does not have by itself (N3): the base first, then the
 * snapshot's own layer. Older layers whose own upload failed for good are folded into it (N5). */
#pragma once

#include "host-service/catalogue/snapshots.h"
#include "host-service/snapshot/layer_line.h"

struct upload_step {
        char *layer;       /* its id */
        FileChain *files;  /* what the layer has is in all of them, and what is folded into it */
        FileChain *parent; /* what it stands on, to leave out what is the same; NULL: not here */
        GPtrArray *folds;  /* ids of layers that it has, too */
        guint64 size_bytes;
        GPtrArray *line; /* of LayerRecord: of the disk, the snapshot's own layer first */
};

/* Of struct upload_step, maybe none. NOT_FOUND, REFUSED: a layer that the store needs cannot be read here
 * (any more). WRONG_STATE: a newer snapshot has been uploaded with what this one has, and
 * its own file is not here any more. */
GPtrArray *upload_plan_make(Catalogue *c, const SnapshotRecord *s, GError **error);
/* Of all layers of the snapshot's disks, and of what they stand on: texts. */
GPtrArray *upload_plan_layers(Catalogue *c, const SnapshotRecord *s, GError **error);
