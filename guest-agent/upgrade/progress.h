/* guest-agent/upgrade/progress.h - the one description of a transaction's state, and who is told when it
 * changes. */
#pragma once

#include "guest-agent/upgrade/transaction.h"
#include "guest-agent/upgrade/stage_delta.h"
#include "common/error.h"

typedef struct Progress Progress;
Progress *progress_new(const guint8 push_id[static 16], transaction_observer observer, gpointer user);
void progress_free(Progress *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Progress, progress_free)

/* Each may be called from any thread. The observer is told of a change of phase at once, of bytes every 100
 * ms. */
void progress_phase(Progress *p, Moult__TransactionPhase phase, MoultError code, const char *text);
void progress_release(Progress *p, const Manifest *m, const guint8 digest[static 32], guint64 generation);
void progress_counts(Progress *p, guint64 bytes_total, guint total, guint change, guint equal, guint blocked,
                     guint merged);
void progress_bytes(Progress *p, guint64 more);
void progress_source(Progress *p, int kind, unsigned changes);
void progress_hook(Progress *p, const char *hook, const char *output);
void progress_deltas(Progress *p, const struct stage_deltas *d);
void progress_times(Progress *p, guint64 staging_us, guint64 switch_us);

Moult__TransactionPhase progress_get_phase(Progress *p);
/* A copy. */
Moult__TransactionState *progress_state(Progress *p);
