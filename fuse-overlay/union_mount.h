/* fuse-overlay/union_mount.h - a FUSE mount of ours, detached, with nobody who serves it yet. */
#pragma once

#include <glib.h>
#include <sys/types.h>

/* The mount's descriptor, and in *ret_fuse_fd that of /dev/fuse which its server reads from; -1 on error.
 * @tag: source. @attr: MOUNT_ATTR_*. @type: S_IFDIR, or S_IFREG for a file.
 * Once the last copy of *ret_fuse_fd is closed, the mount is dead (ENOTCONN); once the mount is gone, reading
 * from it gives ENODEV. */
int union_mount_new(const char *tag, unsigned attr, mode_t type, int *ret_fuse_fd, GError **error);
