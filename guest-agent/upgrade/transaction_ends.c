/* guest-agent/upgrade/transaction_ends.c - what each failure means: before the decision, and after it. */
#include "guest-agent/upgrade/transaction_parts.h"

/* Before the commit record: everything staged is removed, nothing live was touched. */
gboolean transaction_give_up(Transaction *t, Moult__TransactionPhase phase, JournalStep step, GError *why,
                             GError **error)
{
        g_autoptr(GError) cleaning = NULL;
        transaction_close_areas(t);
        transaction_free_merges(t);
        if (t->g != NULL) {
                g_autofree char *text = history_error_text(why);
                if (!recovery_discard(t->u, t->g, step, text, &cleaning))
                        g_prefix_error(&why,
                                       "(cleaning up is not complete: %s; the next start goes on with it) ",
                                       cleaning->message);
        }
        progress_phase(t->progress, phase, moult_error_code(why), why->message);
        g_propagate_error(error, why);
        return FALSE;
}

gboolean transaction_fail(Transaction *t, GError *why, GError **error)
{
        return transaction_give_up(t, MOULT__TRANSACTION_PHASE__PHASE_FAILED, JOURNAL_FAILED, why, error);
}

gboolean transaction_refuse(Transaction *t, GError *why, GError **error)
{
        return transaction_give_up(t, MOULT__TRANSACTION_PHASE__PHASE_REFUSED, JOURNAL_REFUSED, why, error);
}

/* After the commit record: everything goes back. */
gboolean transaction_go_back(Transaction *t, GError *why, GError **error)
{
        g_autoptr(GError) trouble = NULL;
        g_autoptr(GString) notes = g_string_new(NULL);
        g_autofree char *text = history_error_text(why);
        MoultError code = moult_error_code(why);

        progress_phase(t->progress, MOULT__TRANSACTION_PHASE__PHASE_ROLLING_BACK, code, why->message);
        transaction_close_areas(t);
        if (!journal_append(t->g->journal, JOURNAL_BACK, text, &trouble)) {
                g_prefix_error(&why,
                               "(the decision to roll back could not be recorded: %s; the new files stay "
                               "until the agent "
                               "restarts) ",
                               trouble->message);
                g_atomic_int_set(&t->u->unsettled, 1);
                progress_phase(t->progress, MOULT__TRANSACTION_PHASE__PHASE_FAILED, code, why->message);
        } else if (!recovery_go_back(t->u, t->g, t->manifest, t->record, FALSE, text, notes, &trouble)) {
                g_prefix_error(&why, "(%s) ", trouble->message);
                g_atomic_int_set(&t->u->unsettled, 1);
                progress_phase(t->progress, MOULT__TRANSACTION_PHASE__PHASE_FAILED, code, why->message);
        } else {
                if (notes->len > 0)
                        g_prefix_error(&why, "(%s) ", g_strchomp(notes->str));
                progress_phase(t->progress, MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK, code, why->message);
        }
        g_propagate_error(error, why);
        return FALSE;
}
