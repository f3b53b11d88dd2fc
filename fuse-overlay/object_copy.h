/* fuse-overlay/object_copy.h - a copy of a regular file, holes kept, where the file system gives no link. */
#pragma once

#include "common/metadata.h"

/* @to_name must not be there: MOULT_ERROR_BUSY. Links are not followed. Of a copy that fails nothing stays.
 * The metadata is set and read back. Not synced. */
gboolean object_copy(int from_dirfd, const char *from_name, int to_dirfd, const char *to_name,
                     const Metadata *metadata, GError **error);
