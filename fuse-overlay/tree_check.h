/* fuse-overlay/tree_check.h - is a tree on disk what its nodes say, and nothing more? */
#pragma once

#include "fuse-overlay/object_store.h"

/* @nodes: of tree_nodes(), with the same @original_fd (-1: directories that are not listed, and missing
 * whiteouts, are not judged). @top_fd: the tree. MOULT_ERROR_CORRUPT with the first that differs. */
gboolean tree_check(ObjectStore *s, GPtrArray *nodes, int original_fd, int top_fd, GError **error);
