/* host-service/rollout/rollout_state.h - what a rollout does next: pure (docs/rollout.md, States).
 *
 * Theory of operation: everything that it knows is in the catalogue, so the next step is a function of rows.
 * It is asked for whenever a row has changed, and once more after each step, until there is nothing to do. */
#pragma once

#include "host-service/catalogue/rollouts.h"

typedef enum {
        ROLLOUT_DO_NOTHING,
        ROLLOUT_DO_WAIT, /* until next_us */
        ROLLOUT_DO_OPEN, /* `wave` */
        ROLLOUT_DO_PAUSE,
        ROLLOUT_DO_STOP,      /* `text`, which is the caller's to free */
        ROLLOUT_DO_HOLD_BACK, /* what has not begun */
        ROLLOUT_DO_TAKE_BACK, /* what it has upgraded */
        ROLLOUT_DO_END,       /* in `state` */
        ROLLOUT_DO_MAX
} RolloutDo;

struct rollout_facts {
        const RolloutRecord *record;
        struct rollout_counts all, wave; /* wave: of the record's; zero if there is none yet */
        guint rollback_unfinished;       /* pushes of the operation `rollback` */
        gint64 now_us;
};

struct rollout_step {
        RolloutDo action;
        int wave;
        RolloutState state;
        char *text;
};

struct rollout_step rollout_next(const struct rollout_facts *f);

/* Which wave the @i-th of @total VMs is in: first @canary (0: none), then @batch each (0: all others at
 * once). */
guint rollout_wave_of(guint i, guint total, guint canary, guint batch);
/* "N" or "N%" of @total, rounded up, at least 1. FALSE: it is neither, or 0, or more than 100%. */
gboolean rollout_batch_parse(const char *text, guint total, guint *ret);
