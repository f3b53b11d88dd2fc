/* tests/sim/rollout_rules.h - what must be true of rollouts (docs/rollout.md), and of the places that the
 * host gives to pushes.
 *
 * Theory of operation: the host's events are its history, in the order in which it was made durable, so they
 * are replayed here, one after the other, through all crashes. What a push or a rollout may do next is judged
 * by what the events before it said, and by nothing that the host keeps in its memory. */
#pragma once

#include "host-service/catalogue/event_log.h"
#include "host-service/catalogue/rollouts.h"
#include "tests/sim/world.h"

typedef struct RolloutRules RolloutRules;

/* @vms: of Vm; borrowed. @concurrent, @bytes: the host's budgets, as in push_manager_config. */
RolloutRules *rollout_rules_new(World *w, const GPtrArray *vms, guint concurrent, guint64 bytes);
void rollout_rules_free(RolloutRules *r);

typedef enum {
        ROLLOUT_PROMISE_END = 1,     /* it was cancelled: no more waves */
        ROLLOUT_PROMISE_ROLLBACK = 2 /* it was aborted, with rollback */
} RolloutPromise;
/* The host has said so just now. */
void rollout_rules_promise(RolloutRules *r, const char *id, RolloutPromise promise);
/* It is a rollout; @id may be NULL. */
gboolean rollout_rules_know(const RolloutRules *r, const char *id);
/* Each event that the host told, in order; @c is the living host's. */
void rollout_rules_take(RolloutRules *r, Catalogue *c, const EventRecord *e);
