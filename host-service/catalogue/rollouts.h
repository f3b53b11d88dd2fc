/* host-service/catalogue/rollouts.h - a release's way to many VMs, wave by wave, made durable
 * (docs/rollout.md).
 *
 * The row belongs to an operation of kind "rollout"; the VMs are its push rows, with the number of their
 * wave. */
#pragma once

#include "host-service/catalogue/pushes.h"

typedef enum {
        ROLLOUT_RUNNING, /* the pushes of `wave` run */
        ROLLOUT_PAUSING, /* between `wave` and the next */
        ROLLOUT_STOPPED, /* nothing more begins until somebody says so */
        ROLLOUT_ABORTING,
        ROLLOUT_ROLLING_BACK, /* `rollback` runs */
        /* final: */
        ROLLOUT_DONE,
        ROLLOUT_ABORTED,
        ROLLOUT_ROLLED_BACK,
        ROLLOUT_STATE_MAX
} RolloutState;
const char *rollout_state_name(RolloutState s); /* "rolling-back" */
gboolean rollout_state_parse(const char *name, RolloutState *ret);
static inline gboolean rollout_state_is_final(RolloutState s)
{
        return s >= ROLLOUT_DONE;
}

typedef struct rollout_record {
        char *operation;
        RolloutState state;
        int wave;           /* the open one, or the last that was; -1: none yet */
        guint waves;        /* how many there are */
        gboolean canary;    /* the first is one of canaries, whose success is needed */
        guint max_failures; /* beyond `accepted` */
        guint accepted;     /* failures that somebody has resumed after */
        gint64 pause_ms;
        gint64 next_us;     /* when the pause is over; 0: no pause */
        char *text;         /* why it stopped or was aborted; or NULL */
        gboolean take_back; /* after the abort, what it has upgraded */
        char *rollback;     /* the operation that does; or NULL */
} RolloutRecord;
void rollout_record_free(RolloutRecord *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RolloutRecord, rollout_record_free)

/* How its VMs are. */
struct rollout_counts {
        guint total, waiting, running; /* waiting: held back */
        guint done, skipped, failed, rolled_back, refused, cancelled;
        guint unreachable; /* not among `failed` */
        guint failing;     /* among `running`: it is decided that they fail, and only the window is to go */
};
static inline guint rollout_failures(const struct rollout_counts *n)
{
        return n->failed + n->rolled_back + n->refused + n->failing;
}
/* @wave: of that one only; -1: all. */
gboolean catalogue_rollout_count(Catalogue *c, const char *operation, int wave, struct rollout_counts *ret,
                                 GError **error);

/* Another number whenever a rollout, or what catalogue_rollout_count() counts, may have changed since: who
 * waits for that need not count after each of the steps of each push. Of this process only. */
guint64 catalogue_rollout_tally(const Catalogue *c);

/* The operation's row and its pushes are there. Event rollout.running. */
gboolean catalogue_rollout_add(Catalogue *c, const RolloutRecord *r, GError **error);
RolloutRecord *catalogue_rollout_get(Catalogue *c, const char *operation, GError **error);
/* Everything but operation, waves, max_failures and pause_ms. Event rollout.STATE. A final state is never
 * left: WRONG_STATE. */
gboolean catalogue_rollout_update(Catalogue *c, const RolloutRecord *r, GError **error);
/* The pushes of @wave may begin: they are no longer held back. */
gboolean catalogue_rollout_let_begin(Catalogue *c, const char *operation, int wave, GError **error);
/* The pushes to @vms (of char *) are queued and held back again. */
gboolean catalogue_rollout_hold_back(Catalogue *c, const char *operation, const GPtrArray *vms,
                                     GError **error);
/* Every push that is held back ends as cancelled, with @text. */
gboolean catalogue_rollout_cancel_waiting(Catalogue *c, const char *operation, const char *text,
                                          GError **error);
