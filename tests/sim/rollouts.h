/* tests/sim/rollouts.h - the operator's rollouts: asks for them, speaks into them, and looks after those that
 * have stopped. */
#pragma once

#include "tests/sim/host.h"
#include "tests/sim/rollout_rules.h"

typedef struct Rollouts Rollouts;

/* @rules hear what was promised. Borrowed, like the host. */
Rollouts *rollouts_new(World *w, Host *h, RolloutRules *rules);
void rollouts_free(Rollouts *r);
/* Asks for @n of them within @during_us, and looks after them from now on. */
void rollouts_begin(Rollouts *r, guint n, gint64 during_us);
/* Nothing more is asked for; those that stop are still looked after. */
gboolean rollouts_are_done(const Rollouts *r);
/* Ids that were given; of char *. */
const GPtrArray *rollouts_ids(const Rollouts *r);
