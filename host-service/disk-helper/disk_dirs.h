/* host-service/disk-helper/disk_dirs.h - the directories in which moult-disks may work: those that the
 * operator has listed, and those below them.
 *
 * The list is root's word: a symbolic link in it is followed, unless an unprivileged user could turn it. What
 * comes after a listed directory is moultd's word: no link is followed there. */
#pragma once

#include <glib.h>

typedef struct DiskDirs DiskDirs;

/* @path: of the configuration: group [moult-disks], key "directories", separated by ';'. NOT_FOUND, IO;
 * MALFORMED; UNTRUSTED: somebody else than root (or us) can change it. */
DiskDirs *disk_dirs_read(const char *path, GError **error);
void disk_dirs_free(DiskDirs *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DiskDirs, disk_dirs_free)

/* NULL-terminated, absolute, without a '/' at the end. Valid as long as @d. */
const char *const *disk_dirs_list(const DiskDirs *d);
/* @dir opened for reading; owned by the caller. -1: REFUSED: it is not listed, or a link leads there;
 * NOT_FOUND, IO. */
int disk_dirs_open(const DiskDirs *d, const char *dir, GError **error);
