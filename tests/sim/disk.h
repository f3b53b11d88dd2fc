/* tests/sim/disk.h - the disk below the host's catalogue, as an SQLite VFS: it forgets what was not synced.
 *
 * Theory of operation: each file has the bytes as the running system sees them (the page cache) and those
 * that are on the platter, and knows which ranges were written since the last sync. A kill keeps the first; a
 * power cut keeps the second, and of the ranges in between each sector (512 bytes) by chance. Real SQLite
 * runs above it, with its WAL. */
#pragma once

#include "tests/sim/world.h"

typedef struct Disk Disk;

typedef enum {
        DISK_HEALTHY,
        DISK_FULL,      /* files do not grow */
        DISK_NO_WRITES, /* EIO of writes */
        DISK_NO_SYNCS,  /* EIO of syncs: what was written may or may not be there after a power cut */
        DISK_FLAKY,     /* EIO of one write in FLAKY_ONE_IN: some transactions end well, others do not */
        DISK_HEALTHS
} DiskHealth;

/* Registers a VFS. @effect is called before each write and sync; FALSE: the host is dead, and what it does
 * counts no more. */
Disk *disk_new(World *w, gboolean (*effect)(gpointer user), gpointer user);
void disk_free(Disk *d); /* no file may be open */
const char *disk_vfs(const Disk *d);

/* A file with these bytes, durable. */
void disk_put(Disk *d, const char *name, const void *data, gsize len);
/* A copy of the file as the system sees it; NULL: there is none. */
GBytes *disk_get(const Disk *d, const char *name);

void disk_set_health(Disk *d, DiskHealth health);
/* This moment is what the next start will find. The host may go on for a while, without effect. */
void disk_freeze(Disk *d, gboolean power_cut);
/* The dead host is gone: the disk is as it was frozen. */
void disk_thaw(Disk *d);
