/* guest-agent/stale_files.h - the paths that a release speaks of, and whether an object that somebody holds
 * is what such a path leads to now.
 *
 * Theory of operation: an exchanged file lives on under AREA/.moult, and the kernel then gives that as its
 * name; one that was removed keeps its name with " (deleted)"; one that a mount covers keeps its name; one in
 * a mount that was taken off has a name relative to that mount. So a name only says which path it may be
 * about, and what decides is whether the object is the one that the path leads to now: one rule for files
 * that were exchanged, deleted, covered by a merge, and merged anew, on any file system. It also finds what
 * others (a package manager) have replaced under a path of the release: that is no less true. */
#pragma once

#include <glib.h>
#include <sys/stat.h>

#include "shm/manifest.h"

typedef struct StaleFiles StaleFiles;

/* Takes over @m. @root: absolute. Looks at each directory of the release, to know its path without links. */
StaleFiles *stale_files_new(const char *root, Manifest *m);
void stale_files_free(StaleFiles *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StaleFiles, stale_files_free)

/* Index of a path within the root (no leading slash), which becomes one of the release's if it is none. */
gssize stale_files_add(StaleFiles *f, const char *path);
/* Index of the path that @name, as the kernel gives it, is about; -1: none of the release's. */
gssize stale_files_find(const StaleFiles *f, const char *name);
/* The same for a name that is relative to a mount which nobody sees any more: an index from @after on, so
 * that each path that ends so can be looked at. -1: no more. */
gssize stale_files_find_detached(const StaleFiles *f, const char *name, gssize after);
/* An object that somebody holds: by a link in /proc that leads to it. */
struct stale_held {
        int dirfd;
        const char *link;
        struct stat stat;
};
/* TRUE if @held is not what the path leads to now, and is not byte by byte the same either: a file that only
 * got another time, or is served by another mount, is no old code. */
gboolean stale_files_is_replaced(StaleFiles *f, gsize index, const struct stale_held *held);
/* The path as the kernel gives it to us. Lives as long as @f. */
const char *stale_files_name(const StaleFiles *f, gsize index);
/* The path within the root, with a leading slash; lives as long as @f. */
const char *stale_files_path(const StaleFiles *f, gsize index);
