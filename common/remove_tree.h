/* common/remove_tree.h - a directory with everything in it goes, never across a mount or a link. */
#pragma once

#include <glib.h>

/* Removes @name in @dirfd, whatever it is. Not there: nothing to do. MOULT_ERROR_REFUSED if something is
 * mounted in it. One directory is open at a time, however deep it goes. */
gboolean remove_tree(int dirfd, const char *name, GError **error);
/* Everything in the directory @fd but the names in @keep (set of strings; may be NULL). */
gboolean remove_tree_children(int fd, GHashTable *keep, GError **error);
