/* host-service/disk-helper/disk_lock.h - one change of a disk's files at a time, whoever asked for it.
 *
 * A moultd that was killed leaves a moult-disks that may be in the middle of something; the next moultd's
 * must not look before that has ended. The locks lie in a directory of our own: on the disks' directory
 * anybody who may read it could hold one. */
#pragma once

#include <glib.h>

/* Waits. @dir_fd, @name: the disk. Owned by the caller: closing it ends the lock. -1: IO. */
int disk_lock_take(const char *run_dir, int dir_fd, const char *name, GError **error);
