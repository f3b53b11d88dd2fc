/* fuse-overlay/mount_api.h - the kernel's mount calls that work on descriptors, with errors that say what and
 * where.
 *
 * A mount that was made or cloned here is detached: nobody sees it, and it is gone when its descriptor is
 * closed, until it is moved to a place. */
#pragma once

#include <glib.h>

struct mount_option {
        const char *key;
        const char *value; /* NULL: a flag */
};

/* Detached mount of a new file system, read-only if @attr (MOUNT_ATTR_*) says so; @source is what the mount
 * table shows as its source. What the kernel logged about a refusal is part of the error. -1 on error. */
int mount_api_make(const char *type, const char *source, const struct mount_option *options, guint n_options,
                   unsigned attr, GError **error);
/* Detached clone of the mount that @fd (O_PATH) lies on, with @fd as its root; without what is mounted below
 * it. */
int mount_api_clone(int fd, const char *what, GError **error);
/* The same, of all that is mounted below as well. */
int mount_api_clone_tree(int fd, const char *what, GError **error);

typedef enum { MOUNT_ON_TOP, MOUNT_BENEATH } MountWhere;
/* Attaches @mount_fd (detached, or attached somewhere private) to the place @place_fd (O_PATH), on top of or
 * beneath what is mounted there. */
gboolean mount_api_move(int mount_fd, int place_fd, MountWhere where, const char *what, GError **error);
/* TRUE if this kernel can mount beneath (Linux 6.5): asked with a call that cannot succeed. */
gboolean mount_api_has_beneath(void);

/* MOUNT_ATTR_* to set and to clear. */
gboolean mount_api_set_attr(int fd, guint64 set, guint64 clear, const char *what, GError **error);
/* MS_PRIVATE, MS_SHARED; @tree: and all below. */
gboolean mount_api_set_propagation(int fd, guint64 propagation, gboolean tree, const char *what,
                                   GError **error);

/* Takes away the mount on top at the place @fd, with all that is mounted on it, at once. Who has files of it
 * open keeps them. */
gboolean mount_api_detach(int fd, const char *what, GError **error);

/* Id (as in the mount table) of the mount that @fd lies on; 0 if it cannot be known. Never asks the file
 * system, which may be a dead server's. */
guint64 mount_api_id(int fd);
/* The path of @fd as this process sees it; NULL if it has none. The caller frees. */
char *mount_api_path(int fd);
