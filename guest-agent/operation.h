/* guest-agent/operation.h - one push, or one rollback: its transaction, its ladder, its newest state.
 *
 * The steps block and run one after the other in the engine's worker thread; each leaves a state that is
 * true, also when it fails. Everything else may be called from the main thread meanwhile. */
#pragma once

#include "guest-agent/config.h"
#include "guest-agent/ladder.h"
#include "guest-agent/pack_server.h"
#include "guest-agent/peers.h"
#include "guest-agent/push_state.h"

typedef struct Operation Operation;

struct operation_env {
        const struct agent_config *config;
        Upgrade *upgrade;
        Peers *peers;
        /* From the main loop, coalesced: operation_state() is another one now. */
        void (*changed)(Operation *op, gpointer user);
        gpointer user;
        PackServer *packs; /* instant mode: the pack's bytes for servers of merges; NULL: not to be had */
};

Operation *operation_new_push(const struct operation_env *env, const Moult__Offer *offer);
/* What recovery rolled forward, or NULL: operation_commit() goes on with it. */
Operation *operation_new_recovered(const struct operation_env *env);
Operation *operation_new_rollback(const struct operation_env *env, const Moult__RollbackGeneration *request);
Operation *operation_ref(Operation *op);
void operation_unref(Operation *op);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Operation, operation_unref)

/* Main thread: `changed` is not called any more. */
void operation_detach(Operation *op);

const guint8 *operation_id(const Operation *op); /* 16 bytes */
gboolean operation_is_rollback(const Operation *op);
/* Once committed: the release's units that are stale are to be restarted. */
gboolean operation_wants_restarts(const Operation *op);
gboolean operation_is_dry_run(const Operation *op);
/* How long it may still be active without a confirmation. */
guint64 operation_confirm_left_ms(Operation *op);

/* Active, the host has confirmed, and why that could not be recorded; NULL else. The caller frees. */
char *operation_confirm_error(Operation *op);
/* Why the dead-man takes it back: nobody confirmed, or that could not be recorded. */
GError *operation_deadman_reason(Operation *op);

/* The newest state, for push_state_free(). */
Moult__TransactionState *operation_state(Operation *op);
Moult__TransactionPhase operation_phase(Operation *op);

/* Steps. */
void operation_plan(Operation *op);
void operation_stage(Operation *op);
void operation_commit(Operation *op);
void operation_confirm(Operation *op);
void operation_abort(Operation *op, const GError *why);
void operation_roll_back(Operation *op);
/* A step too: lets the transaction and the pack go; the state stays. */
void operation_release(Operation *op);

/* Instant mode copies now, which may be cut off at any time: the next start of the agent goes on with it. */
gboolean operation_is_filling(Operation *op);
/* Ends a plan, a stage, or the copying of instant mode, that runs. */
void operation_cancel(Operation *op);
/* @can: see ladder_look_again(). */
void operation_look_again(Operation *op, const Moult__SourceKind *can, size_t n_can);
/* Whether plan pages can be had; items point into the transaction. */
gboolean operation_has_plan(Operation *op);
guint operation_plan_size(Operation *op);
const Moult__PlanItem *operation_plan_item(Operation *op, guint i);
