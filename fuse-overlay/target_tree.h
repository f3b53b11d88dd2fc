/* fuse-overlay/target_tree.h - the part of a target below one merge as a directory tree: what overlayfs takes
 * as its upper-most lower layer. */
#pragma once

#include "fuse-overlay/object_store.h"

/* STATE_DIR/target/trees/ID. Directories that the target does not list itself get owner, mode, times and
 * attributes of the original's (@original_fd: the merge's directory in the original), since overlayfs shows
 * the upper-most. Whiteouts are character devices 0:0. Made under a temporary name and renamed: a tree that
 * is there is whole, and is taken as it is. MOULT_ERROR_NOT_FOUND: an object is missing. */
gboolean target_tree_make(ObjectStore *s, const Target *t, const struct target_merge *merge, int original_fd,
                          GCancellable *cancellable, GError **error);
/* O_PATH of the tree, or -1 with NOT_FOUND. */
int target_tree_open(ObjectStore *s, const Target *t, const struct target_merge *merge, GError **error);
/* Walks it: every item is there with its type, metadata and (for files) the object's inode. CORRUPT with the
 * first that is not. */
gboolean target_tree_check(ObjectStore *s, const Target *t, const struct target_merge *merge, GError **error);
/* Removes every tree whose id is none of those in @keep (set of strings). */
gboolean target_tree_collect(ObjectStore *s, GHashTable *keep, GError **error);
