/* guest-agent/freeze_mounts.h - which file systems a freeze is for, in which order, and their descriptors. */
#pragma once

#include "common/mounts.h"

/* One file system. */
struct freeze_target {
        dev_t device;
        GPtrArray *mounts; /* const struct mount *, of the table: where it is mounted; the first one first */
};

/* The file systems on block devices that can be written, each once, the one that was mounted last first (so a
 * file system in a loop device comes before the one with its file). Nothing on a network, no FUSE, no
 * overlay, nothing in memory: what they keep on a disk lies on one of these. Pure. The table must outlive the
 * result; free with g_ptr_array_unref(). */
GPtrArray *freeze_mounts_select(const MountTable *t);

/* Opens it where it can be seen: a mount point may be covered by another mount. *ret_mount: where.
 * -1 with @error. The caller closes. */
int freeze_target_open(const struct freeze_target *t, const struct mount **ret_mount, GError **error);
/* The same by what a record says of it: -1 if there is something else by now. */
int freeze_mount_open(const char *point, guint64 id, dev_t device, GError **error);
/* The file system of that number, wherever @t has it and it can be seen. -1 without @error: it is not mounted
 * (any more). */
int freeze_device_open(const MountTable *t, dev_t device, GError **error);
