/* guest-agent/upgrade/transaction_commit.c - the decision and what follows it: switch, health, confirm,
 * abort. */
#include "guest-agent/upgrade/moment.h"
#include "guest-agent/upgrade/recheck.h"
#include "guest-agent/upgrade/transaction_parts.h"

#define HEALTH_ATTEMPTS 2u

/* Before the decision: no file is switched yet. */
static gboolean prepare(Transaction *t, GError **error)
{
        if (!transaction_run_hooks(t, MOULT__HOOK_STAGE__HOOK_PRE, error))
                return FALSE;
        if (recheck_plan(t->plan, t->u->root_fd, error))
                return TRUE;
        g_prefix_error(error, "the tree changed while the upgrade was prepared: ");
        return FALSE;
}

static gboolean not_begun(Transaction *t, GError *why, GError **error)
{
        GError *told = g_error_new(why->domain, why->code, "%s (no file was switched)", why->message);
        g_error_free(why);
        return transaction_give_up(t, MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK, JOURNAL_ROLLED_BACK, told,
                                   error);
}

/* The record may or may not have reached the disk. A later record, written and synced, settles it; if that
 * fails too, nobody knows before the next start, and staging must be there for either outcome. */
static gboolean undecided(Transaction *t, GError *why, GError **error)
{
        g_autoptr(GError) again = NULL;
        if (journal_append(t->g->journal, JOURNAL_ROLLED_BACK, "io: the commit record could not be synced",
                           &again))
                return not_begun(t, why, error);
        g_prefix_error(
                &why,
                "the decision to commit could not be recorded (%s); the tree is all old now, the next start "
                "of the agent settles it: ",
                again->message);
        g_atomic_int_set(&t->u->unsettled, 1);
        progress_phase(t->progress, MOULT__TRANSACTION_PHASE__PHASE_FAILED, MOULT_ERROR_IO, why->message);
        g_propagate_error(error, why);
        return FALSE;
}

/* Of an instant upgrade, with the boot: another one takes it back. */
static gboolean record_commit(Transaction *t, GError **error)
{
        struct moment now;
        moment_now(&now);
        g_autofree char *text = t->instant ? moment_text(&now) : NULL;
        return journal_append(t->g->journal, JOURNAL_COMMIT, text, error);
}

static gboolean switch_over(Transaction *t, gboolean *ret_decided, GError **error)
{
        struct commit_context c = engine_commit_context(t->u, t->g, t->manifest, t->record);
        g_autoptr(GString) notes = g_string_new(NULL);
        gint64 begin_us = g_get_monotonic_time();
        c.area_fds = t->area_fds;
        c.leave_agent = TRUE;
        *ret_decided = FALSE;
        if (!record_commit(t, error))
                return FALSE;
        *ret_decided = TRUE;
        if (!commit_forward(&c, notes, error) || !transaction_switch_merges(t, notes, error))
                return FALSE;
        progress_times(t->progress, 0, (guint64)(g_get_monotonic_time() - begin_us));
        return journal_append(t->g->journal, JOURNAL_SWITCHED, NULL, error);
}

/* A hook or a new service may take the machine or the agent down each time: that is known by the records. */
static gboolean begin_health(Transaction *t, GError **error)
{
        guint before = journal_count(t->g->journal, JOURNAL_HEALTH);
        if (before >= HEALTH_ATTEMPTS) {
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_HEALTH,
                        "the machine or the agent went down each of the %u times that post hooks, restarts "
                        "and health checks were begun",
                        before);
                return FALSE;
        }
        g_autofree char *text = g_strdup_printf("attempt %u of %u", before + 1, HEALTH_ATTEMPTS);
        return journal_append(t->g->journal, JOURNAL_HEALTH, text, error);
}

static gboolean health(Transaction *t, GError **error)
{
        if (journal_last(t->g->journal) == JOURNAL_FILLING || journal_last(t->g->journal) == JOURNAL_FILLED)
                return TRUE; /* passed, before the agent was started again */
        return begin_health(t, error) && transaction_run_hooks(t, MOULT__HOOK_STAGE__HOOK_POST, error) &&
               transaction_run_restarts(t, error) &&
               transaction_run_hooks(t, MOULT__HOOK_STAGE__HOOK_HEALTH, error);
}

static gboolean is_interrupted(Transaction *t, const GError *why)
{
        return moult_error_code(why) == MOULT_ERROR_CANCELLED &&
               journal_last(t->g->journal) == JOURNAL_FILLING;
}

gboolean transaction_commit(Transaction *t, GCancellable *c, GError **error)
{
        GError *why = NULL;
        gboolean resumed =
                t->recovered && progress_get_phase(t->progress) == MOULT__TRANSACTION_PHASE__PHASE_COMMITTING;
        if (!resumed) {
                gboolean decided;
                if (!transaction_require_phase(t, MOULT__TRANSACTION_PHASE__PHASE_STAGED, "commit", error))
                        return FALSE;
                progress_phase(t->progress, MOULT__TRANSACTION_PHASE__PHASE_COMMITTING,
                               MOULT_ERROR_UNSPECIFIED, NULL);
                if (!prepare(t, &why))
                        return not_begun(t, why, error);
                if (!switch_over(t, &decided, &why))
                        return decided ? transaction_go_back(t, why, error) : undecided(t, why, error);
        } else if (!transaction_can_fill(t, error)) {
                return FALSE;
        }
        if (!health(t, &why) || !transaction_fill(t, c, &why) || !transaction_switch_agent(t, &why) ||
            !transaction_record_active(t, &why)) {
                if (!is_interrupted(t, why))
                        return transaction_go_back(t, why, error);
                g_propagate_error(error, why);
                return FALSE;
        }
        progress_phase(t->progress, MOULT__TRANSACTION_PHASE__PHASE_ACTIVE, MOULT_ERROR_UNSPECIFIED, NULL);
        return TRUE;
}

static gboolean changes_anything(const Moult__Record__Plan *plan)
{
        if (plan->merged > 0)
                return TRUE;
        for (size_t i = 0; i < plan->n_directories; i++)
                if (plan->directories[i]->old != NULL)
                        return TRUE;
        return FALSE;
}

gboolean transaction_confirm(Transaction *t, GError **error)
{
        g_autoptr(GError) pruning = NULL;
        g_autoptr(GString) notes = g_string_new(NULL);
        if (!transaction_require_phase(t, MOULT__TRANSACTION_PHASE__PHASE_ACTIVE, "confirm", error))
                return FALSE;
        /* The floor first: a floor without its release is safe, the other way round is not. */
        if (!floor_raise(t->u, t->g->dirfd, t->manifest->security_floor, error) ||
            !journal_append(t->g->journal, JOURNAL_COMMITTED,
                            changes_anything(t->record) ? NULL : HISTORY_NOTHING_CHANGED, error))
                return FALSE;
        transaction_close_areas(t);
        if (!recovery_prune(t->u, notes, &pruning)) /* the next start tries again; the upgrade is done */
                g_string_append(notes, pruning->message);
        progress_phase(t->progress, MOULT__TRANSACTION_PHASE__PHASE_COMMITTED, MOULT_ERROR_UNSPECIFIED,
                       notes->len > 0 ? g_strchomp(notes->str) : NULL);
        return TRUE;
}

gboolean transaction_abort(Transaction *t, const GError *why, GError **error)
{
        GError *told =
                why != NULL ? g_error_copy(why)
                            : g_error_new_literal(MOULT_ERROR, MOULT_ERROR_CANCELLED, "cancelled by command");
        GError *ended = NULL;
        Moult__TransactionPhase after;
        switch (progress_get_phase(t->progress)) {
        case MOULT__TRANSACTION_PHASE__PHASE_NONE:
        case MOULT__TRANSACTION_PHASE__PHASE_PLANNING:
        case MOULT__TRANSACTION_PHASE__PHASE_PLANNED:
        case MOULT__TRANSACTION_PHASE__PHASE_STAGING:
        case MOULT__TRANSACTION_PHASE__PHASE_STAGED:
                transaction_fail(t, told, &ended);
                after = MOULT__TRANSACTION_PHASE__PHASE_FAILED;
                break;
        case MOULT__TRANSACTION_PHASE__PHASE_COMMITTING: /* recovered, before health */
        case MOULT__TRANSACTION_PHASE__PHASE_ACTIVE:
                transaction_go_back(t, told, &ended);
                after = MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK;
                break;
        default:
                g_error_free(told);
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                                    "the transaction is over already");
                return FALSE;
        }
        if (progress_get_phase(t->progress) == after) {
                g_error_free(ended);
                return TRUE;
        }
        g_propagate_error(error, ended);
        return FALSE;
}
