/* guest-agent/push.h - the one push at a time: what the host may do with it, and what is true of it now.
 *
 * Theory of operation: the host's commands are wishes; what they act on is one Transaction, whose blocking
 * steps run one after the other in the engine's worker thread. The main loop keeps the newest
 * TransactionState, and answers every command with it: a command that was doubled, or comes late, finds its
 * work done or under way and changes nothing. Nothing in the commit path waits for the host. Two timers guard
 * against a host that never comes back: the dead-man timer (active and unconfirmed: roll back) and the idle
 * timer (planned or staged, and nobody drives it: forget it).
 *
 * A rollback of an old generation is an operation of the same kind, with a push_id of its own.
 *
 *   offer -> [plan] -> PLANNED -> stage -> STAGED -> commit -> ACTIVE -> confirm -> COMMITTED
 *   abort: before commit: FAILED(cancelled); queued behind a commit: rolled back as soon as it is active. */
#pragma once

#include "guest-agent/config.h"
#include "guest-agent/operation.h"
#include "guest-agent/peers.h"
#include "guest-agent/worker.h"

typedef struct Pushes Pushes;

struct pushes_events {
        void (*changed)(gpointer user); /* pushes_state() is another one now; coalesced */
        /* Recovery is over: offers are taken from now on; or @error: the engine cannot be opened. */
        void (*opened)(const GError *error, gpointer user);
        /* A step of a push is over; @successor: the agent's path leads to another program, and it is time.
         * May be NULL. */
        void (*step_over)(gboolean successor, gpointer user);
        /* Whether the path of this program leads to another one. May be NULL. */
        gboolean (*is_replaced)(gpointer user);
        /* Why nothing may begin now that writes; NULL: it may. May be NULL. */
        const char *(*hold_back)(gpointer user);
        struct upgrade_own_program own; /* for the engine */
};

/* Opens the engine in the worker. @config and @peers must outlive it. */
Pushes *pushes_new(const struct agent_config *config, Peers *peers, const struct pushes_events *events,
                   gpointer user);
/* Waits for the step that runs. */
void pushes_free(Pushes *ps);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Pushes, pushes_free)

/* The state as it is to be sent now, with the rung in use and the dead-man time; NULL: no push since the
 * start. */
Moult__TransactionState *pushes_state(Pushes *ps);

/* Each answers @ticket (taken over) now or later. */
void pushes_offer(Pushes *ps, struct ticket *ticket, const Moult__Offer *offer);
void pushes_command(Pushes *ps, struct ticket *ticket, const Moult__PushCommand *command);
void pushes_plan_page(Pushes *ps, struct ticket *ticket, const Moult__PlanQuery *query);
void pushes_history(Pushes *ps, struct ticket *ticket, unsigned count);
void pushes_rollback(Pushes *ps, struct ticket *ticket, const Moult__RollbackGeneration *request);
/* Answered with a Status message; @status is what the caller knows (its strings are used during the call
 * only). */
void pushes_status(Pushes *ps, struct ticket *ticket, const Moult__Status *status);

/* Answered with a StaleReport. */
void pushes_stale(Pushes *ps, struct ticket *ticket, const Moult__StaleQuery *query);

/* True while a switch or its way back runs: a clean stop waits for it. */
gboolean pushes_is_switching(const Pushes *ps);
/* True while file systems must not be frozen: a commit, a way back, or recovery runs or is queued. */
gboolean pushes_must_not_freeze(const Pushes *ps);
/* True while any step is queued or runs. */
gboolean pushes_is_working(const Pushes *ps);
