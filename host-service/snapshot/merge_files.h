/* host-service/snapshot/merge_files.h - what a merge does to files: one is made of two, looked at, removed.
 * Everything that counts is synced before it returns; doing a thing twice is doing it once. All of it blocks:
 * for worker threads. */
#pragma once

#include "host-service/disk/disk.h"
#include "host-service/snapshot/merge_settle.h"

/* The new file of @r, which shows over what lies below both what @chain (the upper file, the lower one, and
 * all that lies below) shows; compared. One that is left from before is made anew. What goes wrong leaves
 * merge_files_remove() to be called. Errors: those of disk_open(); NO_SPACE; CORRUPT: it does not read the
 * same; UNSUPPORTED: moultd may not make files there. */
gboolean merge_files_make(const MergeRecord *r, const struct disk_image *chain, guint n, const char *qemu_img,
                          GCancellable *c, GError **error);

/* NO_SPACE: there is none for a copy of all that both files have, and the top (@with_top). What nobody has
 * asked for must not fill the file system that VMs write to. */
gboolean merge_files_have_room(const MergeRecord *r, gboolean with_top, GError **error);

/* @next: the new top that the disk gets; NULL: it keeps its own. @ret->backing is the caller's. What is at
 * the well-known path is on the medium after it. */
gboolean merge_files_look(const MergeRecord *r, const char *next, struct merge_look *ret, GError **error);

/* A layer's file goes. It is not there: success. BUSY: a QEMU has it open; REFUSED: it has no layer's name.
 */
gboolean merge_files_remove(const char *path, GError **error);
