/* host-service/catalogue/removals.h - restore points that are gone, and whose manifests may still be in the
 * store. docs/snapshots.md, *Remove and prune*. */
#pragma once

#include "host-service/catalogue/catalogue.h"

typedef struct {
        char *snapshot, *vm; /* id; name */
} RemovalRecord;
void removal_record_free(RemovalRecord *r);

/* The restore point goes from the catalogue, at once; a removal is left. Event snapshot.removed. NOT_FOUND;
 * WRONG_STATE: it is being made. */
gboolean catalogue_snapshot_remove(Catalogue *c, const char *id, GError **error);
/* All, oldest first. */
GPtrArray *catalogue_removal_list(Catalogue *c, GError **error);
/* The store has nothing of it any more. */
gboolean catalogue_removal_done(Catalogue *c, const char *snapshot, GError **error);

/* Why the restore point has to stay, for jobs and pushes that have not ended; owned; NULL: none is about it.
 */
char *catalogue_snapshot_job(Catalogue *c, const char *id);
