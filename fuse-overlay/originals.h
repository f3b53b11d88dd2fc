/* fuse-overlay/originals.h - clones of what the merges cover, in a private mount of our own (RUN_DIR).
 *
 * Theory of operation: the next release is composed over the original, not over the last merge, so a clone of
 * the original's mount is kept for as long as a merge covers it. It has a second use on kernels that cannot
 * mount beneath (mount_stack.c): there it is the *handle* of the place, a peer of the anchor that lies under
 * the merge, and what is mounted on it arrives at the place. A handle that was used is covered, so it is
 * exchanged for a fresh clone; each state in between is one that originals_tidy() knows. */
#pragma once

#include <glib.h>

typedef struct Originals Originals;

/* Makes RUN_DIR (0700, a tmpfs, private) if it is not there. @run_dir: absolute. */
Originals *originals_open(const char *run_dir, GError **error);
/* NULL without error if it is not there: looks only. */
Originals *originals_find(const char *run_dir, GError **error);
void originals_free(Originals *o);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Originals, originals_free)

/* Ends what a kill left half done: staged mounts, handles. */
gboolean originals_tidy(Originals *o, GError **error);

/* O_PATH of the clone for the merge at @path (relative to the root), or -1 with NOT_FOUND. */
int originals_get(Originals *o, const char *path, GError **error);
/* Clones the mount that @place_fd lies on (its root: @place_fd), instead of what is kept for @path. Private.
 */
gboolean originals_keep(Originals *o, const char *path, int place_fd, GError **error);
/* @clone_fd (detached) takes the place of what is kept for @path. */
gboolean originals_install(Originals *o, const char *path, int clone_fd, GError **error);
/* The handle @handle_fd was used, and is covered: @clone_fd, a peer that was made before, takes its place. */
gboolean originals_advance(Originals *o, const char *path, int handle_fd, int clone_fd, GError **error);
/* Peer group of what is kept for @path; 0: none. */
guint64 originals_peer_group(Originals *o, const char *path);
/* Lets go of all but those of @keep (set of paths; NULL: none). */
gboolean originals_collect(Originals *o, GHashTable *keep, GError **error);

/* A private place to put a tree of mounts together: O_PATH of a directory or a file. originals_tidy() takes
 * away what was not moved on. */
int originals_stage(Originals *o, gboolean directory, GError **error);
