/* guest-agent/stale_process.h - one process: which replaced files it holds, where it belongs, what it is
 * called.
 *
 * A process may end, or become another program, between any two looks: then there is nothing to tell of it.
 * Everything goes through one descriptor of its /proc directory, so a number that is used again is not mixed
 * up with it. */
#pragma once

#include "common/mounts.h"
#include "guest-agent/stale_aside.h"
#include "guest-agent/stale_files.h"

typedef struct {
        gint64 pid, parent;
        int dirfd;               /* /proc/PID */
        guint64 mount_namespace; /* 0: not known */
        GHashTable
                *files; /* names of replaced files that it holds: paths within the root, or names in .moult */
} StaleProcess;

/* What it is looked at with. */
struct stale_view {
        StaleFiles *files;
        StaleAside *aside;
        guint64 mount_namespace;  /* ours */
        const MountTable *mounts; /* ours */
        struct stat root;         /* "/" */
};

typedef enum {
        STALE_LOOK_DONE,
        STALE_LOOK_NOTHING, /* it has ended, or is a thread of the kernel */
        STALE_LOOK_DENIED,  /* we may not, or not all of it could be read */
} StaleLook;

/* Opens it, and tells what is known without looking at its files. NULL with DENIED or NOTHING. */
StaleProcess *stale_process_open(gint64 pid, StaleLook *ret);
void stale_process_free(StaleProcess *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StaleProcess, stale_process_free)

/* Fills p->files. @behind: its mount namespace did not follow the merges, so that what it opens anew is old,
 * too. */
StaleLook stale_process_look(StaleProcess *p, const struct stale_view *view, gboolean behind);
/* TRUE if its paths are those of our tree: not in a container or a chroot. */
gboolean stale_process_sees_our_tree(const StaleProcess *p, const struct stale_view *view);
/* Its mount table; NULL if it has gone. */
MountTable *stale_process_mounts(const StaleProcess *p);

/* For people; NULL if it has gone. The caller frees. */
char *stale_process_command(const StaleProcess *p);
/* The systemd unit, or NULL. */
char *stale_process_unit(const StaleProcess *p);
