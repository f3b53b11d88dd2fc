/* guest-agent/stale_mounts.h - whether a mount namespace followed the merges of the target file system: pure.
 *
 * A merge carries a tag as its mount's source, "moult-METHOD-ID" (docs/target-file-system.md). Another
 * namespace followed if the same tag is on top at the same place; and where nothing of ours is merged any
 * more, if nothing is there either. */
#pragma once

#include "common/mounts.h"

/* Mount points (char *) below @root at which @theirs is not as @ours. */
GPtrArray *stale_mounts_differ(const MountTable *ours, const MountTable *theirs, const char *root);
