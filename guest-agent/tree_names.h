/* guest-agent/tree_names.h - the names in one directory, as far as they are asked for, in order. */
#pragma once

#include <glib.h>

/* Where a range of paths begins and ends, seen from one directory: relative to it, without a leading slash.
 * NULL: all that is in the directory comes after the beginning, or before the end. */
struct tree_bounds {
        const char *after, *until;
};

typedef struct TreeNames TreeNames;

/* Those of the directory open as @dir_fd that are in bounds, or have something below them that may be. @path:
 * for errors. NULL with @error: IO. */
TreeNames *tree_names_read(int dir_fd, const char *path, const struct tree_bounds *bounds, GError **error);
void tree_names_free(TreeNames *n);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TreeNames, tree_names_free)
guint tree_names_count(const TreeNames *n);
const char *tree_names_get(const TreeNames *n, guint i);

/* Pure. Whether @name itself is in bounds, where what is below it is; *ret_below: the bounds from there. */
gboolean tree_bounds_include(const struct tree_bounds *bounds, const char *name,
                             struct tree_bounds *ret_below);
/* Pure. FALSE: the range ends with this directory itself. */
gboolean tree_bounds_go_below(const struct tree_bounds *below);
