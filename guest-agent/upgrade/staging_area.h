/* guest-agent/upgrade/staging_area.h - MOUNT/.moult/N: where new objects are made and old ones are kept.
 *
 * `.moult` is root's, 0700, without inherited ACL. The modification time of the directory that holds it is
 * put back whenever `.moult` comes or goes, so that a rollback gives back the exact old tree. */
#pragma once

#include <glib.h>

typedef enum {
        STAGING_OPEN,   /* it is there, or NOT_FOUND */
        STAGING_CREATE, /* it is not there: else it is another engine's (REFUSED) */
        STAGING_RESUME, /* made if it is not there */
} StagingMode;
/* Opens AREA/.moult/GENERATION. Returns a descriptor, or -1. Unless STAGING_OPEN, the exchange of two names
 * is tried as well: MOULT_ERROR_REFUSED if the file system has none. */
int staging_area_open(int root_fd, const char *area, guint64 generation, StagingMode mode, GError **error);
/* The directory @fd (@name in errors) becomes ours, 0700, without ACL and setgid bit: nothing made in it
 * inherits any. */
gboolean staging_make_private(int fd, const char *name, GError **error);
/* fsync of the directories that hold AREA/.moult/GENERATION. Not there: nothing to do. */
gboolean staging_area_sync(int root_fd, const char *area, GError **error);
/* Removes AREA/.moult/GENERATION with everything in it, and `.moult` if that was the last. Not there: nothing
 * to do. Names in @keep (set of strings, top level; may be NULL) stay, and the directories above them.
 * @planned_mtime_ns: the time of the area's topmost directory before `.moult` was made, for the case that we
 * were killed before it could be put back; 0: not known. */
gboolean staging_area_remove(int root_fd, const char *area, guint64 generation, gint64 planned_mtime_ns,
                             GHashTable *keep, GError **error);
