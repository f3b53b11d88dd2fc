/* guest-agent/upgrade/transaction.c - staging, and what the other steps of a transaction share. */
#include <string.h>
#include <unistd.h>

#include "common/events.h"
#include "guest-agent/upgrade/transaction_parts.h"

static void on_hook(const char *hook, const char *output, gpointer user)
{
        progress_hook(user, hook, output);
}

static struct hook_context hook_context(Transaction *t)
{
        return (struct hook_context){
                .manifest = t->manifest,
                .root = t->u->root,
                .inside = t->u->hooks_inside,
                .generation = t->g != NULL ? t->g->number : 0,
                .push_id = t->push_id,
                .init_command = t->u->init_command,
                .observe = on_hook,
                .user = t->progress,
        };
}

gboolean transaction_run_hooks(Transaction *t, Moult__HookStage stage, GError **error)
{
        struct hook_context h = hook_context(t);
        return hooks_run(&h, stage, error);
}

gboolean transaction_run_restarts(Transaction *t, GError **error)
{
        struct hook_context h = hook_context(t);
        return units_restart(&h, error);
}

gboolean transaction_require_phase(Transaction *t, Moult__TransactionPhase want, const char *what,
                                   GError **error)
{
        if (progress_get_phase(t->progress) == want)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE, "the transaction is not in the phase to %s",
                    what);
        return FALSE;
}
gboolean transaction_record_plan(Transaction *t, GError **error)
{
        if (t->record != NULL)
                moult__record__plan__free_unpacked(t->record, NULL);
        t->record = plan_to_record(t->plan);
        transaction_mark_agent(t, t->record);
        return generation_save_plan(t->g, t->record, error);
}

void transaction_close_areas(Transaction *t)
{
        for (guint i = 0; i < t->n_areas; i++)
                if (t->area_fds[i] >= 0)
                        close(t->area_fds[i]);
        g_clear_pointer(&t->area_fds, g_free);
        t->n_areas = 0;
}

static void on_bytes(guint64 more, gpointer user)
{
        Transaction *t = user;
        PackSource *source = pack_reader_source(t->pack);
        progress_source(t->progress, source->ops->kind, 0);
        progress_bytes(t->progress, more);
}

gboolean transaction_run_staging(Transaction *t, Plan *p, StageWhat what, GCancellable *c, GError **error)
{
        struct stage_deltas deltas;
        struct stage_options o = {
                .deltas = &deltas,
                .what = what,
                .root_fd = t->u->root_fd,
                .area_fds = t->area_fds,
                .incoming_fd = t->incoming_fd,
                .workers = t->workers,
                .gentle = t->gentle,
                .idle_io = t->u->idle_io,
                .progress = on_bytes,
                .user = t,
        };
        stage_deltas_init(&deltas);
        gboolean ok = stage_run(p, t->pack, &o, c, error);
        if (what == STAGE_NOW)
                progress_deltas(t->progress, &deltas);
        if (deltas.failed > 0)
                event_log(EVENT_WARNING, "agent-delta-failed", deltas.text, NULL);
        stage_deltas_clear(&deltas);
        return ok;
}

static gboolean stage(Transaction *t, GCancellable *c, GError **error)
{
        if (!generation_keep_pack(t->g, t->pack, error) || !transaction_skip_objects(t, c, error) ||
            !transaction_run_staging(t, t->plan, STAGE_NOW, c, error) ||
            !transaction_prepare_merges(t, c, error) || !transaction_record_plan(t, error))
                return FALSE;
        struct commit_context context = engine_commit_context(t->u, t->g, t->manifest, t->record);
        context.area_fds = t->area_fds;
        if (g_cancellable_set_error_if_cancelled(c, error))
                return FALSE;
        return floor_prepare(t->u, t->g->dirfd, t->manifest->security_floor, error) &&
               commit_sync_staged(&context, error) && generation_sync(t->g, error) &&
               journal_append(t->g->journal, JOURNAL_STAGED, NULL, error);
}

static const char *advice(MoultError code)
{
        switch (code) {
        case MOULT_ERROR_NO_SPACE:
                return ": make room there and try again";
        case MOULT_ERROR_IO:
                return ": see the kernel log (dmesg) for the disk's side of it";
        case MOULT_ERROR_CORRUPT:
                return ": verify the pack (moult release verify)";
        default:
                return "";
        }
}

gboolean transaction_stage(Transaction *t, GCancellable *c, GError **error)
{
        GError *why = NULL;
        gint64 begin_us = g_get_monotonic_time();
        if (t->dry_run ||
            !transaction_require_phase(t, MOULT__TRANSACTION_PHASE__PHASE_PLANNED, "stage", error)) {
                if (t->dry_run)
                        g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE, "this is a dry run");
                return FALSE;
        }
        progress_phase(t->progress, MOULT__TRANSACTION_PHASE__PHASE_STAGING, MOULT_ERROR_UNSPECIFIED, NULL);
        if (!stage(t, c, &why)) {
                GError *told =
                        g_error_new(why->domain, why->code, "staging failed, nothing was touched: %s%s",
                                    why->message, advice(moult_error_code(why)));
                g_error_free(why);
                return transaction_fail(t, told, error);
        }
        progress_times(t->progress, (guint64)(g_get_monotonic_time() - begin_us), 0);
        progress_phase(t->progress, MOULT__TRANSACTION_PHASE__PHASE_STAGED, MOULT_ERROR_UNSPECIFIED, NULL);
        return TRUE;
}

Moult__TransactionState *transaction_state(Transaction *t)
{
        return progress_state(t->progress);
}

void transaction_state_free(Moult__TransactionState *s)
{
        if (s != NULL)
                moult__transaction_state__free_unpacked(s, NULL);
}

guint64 transaction_confirm_timeout_ms(const Transaction *t)
{
        return t->g != NULL && t->g->offer != NULL ? t->g->offer->confirm_timeout_ms : 0;
}

guint transaction_plan_size(const Transaction *t)
{
        return t->n_items;
}

const Moult__PlanItem *transaction_plan_item(const Transaction *t, guint i)
{
        return t->items[i];
}
