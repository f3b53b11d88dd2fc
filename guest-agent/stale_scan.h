/* guest-agent/stale_scan.h - one look at all processes.
 *
 * Theory of operation: reading /proc/PID/maps waits for a lock of that process, and a process that hangs in
 * the kernel may hold it for ever; so may a file system that is asked what a path leads to. The look
 * therefore runs in a thread of its own, which is left behind after STALE_PATIENCE_MS: what it has found
 * until then counts, and the report says what is missing. */
#pragma once

#include "shm/manifest.h"

#define STALE_PATIENCE_MS 30000u

struct stale_found {
        gint64 pid;
        char *command, *unit; /* unit: or NULL */
        GPtrArray *files;     /* char *: the first LIMIT_STALE_FILES */
        guint files_total;
};

struct stale_lagging { /* a mount namespace that did not follow */
        guint64 inode;
        guint processes;
        gint64 pid; /* of the first */
        char *command, *unit;
        GPtrArray *mounts; /* char *: all of them */
};

typedef struct {
        GPtrArray *processes; /* struct stale_found, by pid; the first LIMIT_STALE_PROCESSES */
        guint processes_total;
        GPtrArray *namespaces; /* struct stale_lagging, all */
        GHashTable *units;     /* of all that were found */
        guint looked_at;
        guint denied;
        gint64 denied_first;
        gint64 stuck; /* the process at which patience ended; 0: none */
} StaleScan;
void stale_scan_free(StaleScan *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StaleScan, stale_scan_free)

/* Takes over @m, the list of the files to look for in the tree @root, and @state_fd, the state directory (or
 * -1). This process itself is passed over. */
StaleScan *stale_scan(const char *root, Manifest *m, int state_fd, guint patience_ms);
