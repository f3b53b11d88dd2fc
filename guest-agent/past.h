/* guest-agent/past.h - questions about what this machine went through.
 *
 * The history's files belong to the engine's thread (opening a journal repairs it), so it is read there. A
 * step may take minutes, and nobody should wait so long for a status: while one runs, the answer is what was
 * read before it. A step whose outcome was told is over but for its last lines: then it is waited for, so
 * that nobody who has seen an outcome is given a history without it. */
#pragma once

#include "guest-agent/peers.h"
#include "guest-agent/upgrade/transaction.h"
#include "guest-agent/worker.h"

typedef struct Past Past;

/* @engine and @upgrade must outlive it, and @engine must have no jobs left when it is freed. */
Past *past_new(Worker *engine, Upgrade *upgrade);
void past_free(Past *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Past, past_free)

/* Something ended: reads the history again. */
void past_refresh(Past *p);

/* Each takes over @ticket. @step_runs: a step is on its way whose outcome is open. @count 0: all. */
void past_history(Past *p, struct ticket *ticket, gboolean step_runs, unsigned count);
/* The newest committed release is filled in. @status is used during the call only. */
void past_status(Past *p, struct ticket *ticket, gboolean step_runs, const Moult__Status *status);
/* The state of a push that is not the present one; phase NONE if it is unknown. */
void past_push(Past *p, struct ticket *ticket, const guint8 push_id[static 16]);
