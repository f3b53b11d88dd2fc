/* host-service/store/chunk_look.h - whether a chunk of the shared store is there, and is what its name says.
 */
#pragma once

#include "common/digest.h"
#include "host-service/object_store.h"

/* TRUE: it was looked at; *ret_why is NULL if it is whole, else what is wrong: NOT_FOUND, CORRUPT, IO. What
 * is wrong may be the network's: then it is looked at twice. FALSE: it could not be looked at. Blocks. */
gboolean chunk_look(ObjectStore *o, const guint8 id[static DIGEST_SIZE], guint32 len, GError **ret_why,
                    GCancellable *cancellable, GError **error);
