/* guest-agent/freeze_machine.h - the order in which file systems are frozen and thawed, and what ends a
 * freeze. No I/O, no memory of its own but what it is given, and time is an input.
 *
 * Theory of operation: an operation on a file system may hang, so each is begun here and its end is told
 * later (freeze_machine_done()); whoever runs it gives each file system a thread of its own. All are synced
 * first, at once, so that the freezes have little left to write. Then they are frozen one after the other.
 * From the first freeze on there is a deadline, and when it passes everything that is frozen is thawed, the
 * last one first. One that hangs in its freeze is thawed when it comes back; one that hangs in its thaw keeps
 * the others from theirs for FREEZE_PATIENCE_US only. */
#pragma once

#include <glib.h>

#include "common/error.h"

#define FREEZE_PATIENCE_US (2 * G_USEC_PER_SEC)
#define FREEZE_SYNC_MAX_US (60 * G_USEC_PER_SEC)
#define FREEZE_RETHAW_US   G_USEC_PER_SEC

enum freeze_mount_state {
        FREEZE_MOUNT_OPEN,
        FREEZE_MOUNT_SYNCING,
        FREEZE_MOUNT_FREEZING,
        FREEZE_MOUNT_FROZEN,
        FREEZE_MOUNT_THAWING,
        FREEZE_MOUNT_RETHAW, /* its thaw failed, and is tried again */
        FREEZE_MOUNT_THAWED,
        FREEZE_MOUNT_UNSUPPORTED, /* its kind cannot be frozen: synced */
        FREEZE_MOUNT_THEIRS,      /* somebody else has frozen it */
        FREEZE_MOUNT_FAILED,
};

enum freeze_phase { FREEZE_SYNCING, FREEZE_FREEZING, FREEZE_FROZEN, FREEZE_THAWING, FREEZE_THAWED };

/* What ended it. */
enum freeze_why {
        FREEZE_WHY_NOT,
        FREEZE_WHY_ASKED,
        FREEZE_WHY_LEASE,   /* over */
        FREEZE_WHY_TOLD,    /* a signal */
        FREEZE_WHY_MOUNT,   /* a file system could not be frozen */
        FREEZE_WHY_HANGS,   /* freezing took longer than the lease */
        FREEZE_WHY_NOTHING, /* there is none that can be frozen */
        FREEZE_WHY_STOLEN,  /* somebody else has thawed one */
};

/* Each begins an operation on file system @i. */
struct freeze_ops {
        void (*sync)(guint i, gpointer user);
        void (*freeze)(guint i, gpointer user);
        void (*thaw)(guint i, gpointer user);
};

struct freeze_machine {
        const struct freeze_ops *ops;
        gpointer user;
        guint8 *states; /* of @n file systems, in the order of freezing; the caller's: it may be shared memory
                         */
        guint n;
        enum freeze_phase phase;
        enum freeze_why why;
        gboolean held;    /* true at the end only if nobody else thawed one */
        guint failed;     /* with MOUNT, HANGS and STOLEN: which */
        int failed_errno; /* with MOUNT */
        guint mounts;     /* how many were frozen */
        gint64 lease_us, deadline_us;
        gint64 begun_us;    /* the first freeze; 0: none yet */
        gint64 thawed_us;   /* the last thaw */
        gint64 patience_us; /* of the thaw that runs; 0: none */
        gint64 again_us;    /* when a thaw that failed is tried again; 0: never */
};

/* Times are microseconds of one clock that goes on while the machine sleeps. */
void freeze_machine_init(struct freeze_machine *m, guint8 *states, guint n, gint64 lease_us,
                         const struct freeze_ops *ops, gpointer user);
void freeze_machine_begin(struct freeze_machine *m, gint64 now_us);
/* The operation on @i is over, with an errno value or 0. */
void freeze_machine_done(struct freeze_machine *m, guint i, int error, gint64 now_us);
/* FALSE: it is not frozen (any more). */
gboolean freeze_machine_renew(struct freeze_machine *m, gint64 lease_us, gint64 now_us);
/* Does nothing if it is thawing already. */
void freeze_machine_thaw(struct freeze_machine *m, enum freeze_why why, gint64 now_us);
void freeze_machine_tick(struct freeze_machine *m, gint64 now_us);
/* When to tick; 0: no time is due. */
gint64 freeze_machine_wake_us(const struct freeze_machine *m);
/* How long something was frozen. */
gint64 freeze_machine_frozen_us(const struct freeze_machine *m, gint64 now_us);
