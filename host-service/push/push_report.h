/* host-service/push/push_report.h - what a guest's TransactionState says of a push: for its record, and of
 * how it gets on. */
#pragma once

#include "host-service/catalogue/pushes.h"

/* Everything that the record keeps of it. */
void push_report_take(PushRecord *r, const Moult__TransactionState *s);
/* One transaction: the row, its event, and what the VM now runs (other ways to change that: vm_releases.h).
 */
gboolean push_report_store(Catalogue *c, PushRecord *r, GError **error);
/* The guest has nothing more of this push, or will do nothing more with it. */
gboolean push_phase_is_over(Moult__TransactionPhase phase);

/* How far an offer has come; zero: nowhere. It only ever grows, so going back and forth is no progress. */
struct push_progress {
        Moult__TransactionPhase phase;
        guint64 bytes, entries;
};
/* TRUE if @s is further than *@best, which it becomes then. */
gboolean push_progress_note(struct push_progress *best, const Moult__TransactionState *s);
/* A guest that answers, and yet does not get on, is given up too: silence is not the only way to hold a
 * place. After so long without progress, in the state that @r is in. How long a release's hooks may take we
 * do not know: while the guest names one there is an hour more, for all of them. */
gint64 push_stall_us(const PushRecord *r, guint stall_ms);
