/* host-service/jobs/jobs.h - operations that outlive the daemon: who runs them, and that they are taken up
 * again.
 *
 * Theory of operation: a job is a row (catalogue/operations.h) before anything is done for it. The row holds
 * the whole request, so a runner needs nothing but the row. At start every queued or running operation is
 * handed to its kind's runner again: start() for the queued, resume() for the running, which goes on or
 * undoes. Cancel is a row too, so it is not forgotten either. A runner reports by jobs_finish(), exactly
 * once.
 */
#pragma once

#include "host-service/catalogue/operations.h"

typedef struct Jobs Jobs;

struct job_kind {
        const char *kind;
        /* The row is in state running. Must not block. A failure at once: call jobs_finish(). */
        void (*start)(const OperationRecord *op, gpointer user);
        /* After a restart of the daemon. op->cancel_requested may be set: cancel() is then called next. */
        void (*resume)(const OperationRecord *op, gpointer user);
        /* Asked to stop. The runner still calls jobs_finish(), with what is true then. May be called more
         * than once. */
        void (*cancel)(const OperationRecord *op, gpointer user);
};

Jobs *jobs_new(const struct host_env *env, Catalogue *c);
/* Nothing is begun, taken up again or cancelled any more: runners may go, while the loop turns. */
void jobs_quiet(Jobs *j);
void jobs_free(Jobs *j); /* runners must be gone or quiet by then */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Jobs, jobs_free)

/* @kind must outlive @j. Before jobs_begin(). */
void jobs_register(Jobs *j, const struct job_kind *kind, gpointer user);
/* Takes up everything unfinished. An operation of a kind that nobody runs fails (UNSUPPORTED). */
gboolean jobs_begin(Jobs *j, GError **error);

/* Adds the row; the runner starts from the loop after the present transaction is committed. May be called
 * inside catalogue_begin()/commit(), with rows of the caller's own (pushes) beside it. Returns the new id. */
char *jobs_add(Jobs *j, const char *kind, const char *request, GError **error);
/* The same, asked for by VM @guest itself (NULL: an operator). */
char *jobs_add_for(Jobs *j, const char *kind, const char *request, const char *guest, GError **error);
/* The final state; @result JSON or NULL; @why or NULL. Failure of the catalogue is logged and tried again
 * later. */
void jobs_finish(Jobs *j, const char *id, OperationState state, const char *result, const GError *why);
/* Not final: cancel is requested (idempotent); the runner hears of it from the loop after the present
 * transaction is committed. Final: WRONG_STATE. */
gboolean jobs_cancel(Jobs *j, const char *id, GError **error);
