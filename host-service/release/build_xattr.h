/* host-service/release/build_xattr.h - which extended attributes of a file a release carries, and reading
 * them. */
#pragma once

#include <stdbool.h>

#include "host-service/release/build_tree.h"

/* Pure: capabilities, ACLs, labels and user attributes are carried; what belongs to one machine's kernel is
 * not. */
bool build_xattr_is_carried(const char *name);

/* Pure. @globs may be NULL: nothing is. */
bool build_xattr_is_excluded(const char *const *globs, const char *name);

/* Fills xattrs and n_xattrs of @n, sorted by name, for the directory entry @name in @dirfd, never following
 * it. */
gboolean build_xattr_read(int dirfd, const char *name, struct tree_node *n, const char *const *exclude,
                          GError **error);
