/* host-service/push/push_report.c - what a guest's TransactionState says of a push. */
#include "host-service/push/push_report.h"

#include "host-service/push/vm_releases.h"
#include "proto/limits.h"
#include "proto/message.h"

static void set_text(char **field, ProtobufCBinaryData b)
{
        g_free(*field);
        *field = b.len ? message_text(b) : NULL;
}

/* A guest that has begun anew since knows a push's end by its history, and none of the numbers. */
static gboolean is_out_of_history(const PushRecord *r, const Moult__TransactionState *s)
{
        return r->entries_total > 0 && s->entries_total == 0;
}

void push_report_take(PushRecord *r, const Moult__TransactionState *s)
{
        if (is_out_of_history(r, s)) {
                r->generation = s->generation ? s->generation : r->generation;
                return;
        }
        r->bytes_total = s->bytes_total;
        r->bytes_done = MIN(s->bytes_done, s->bytes_total);
        r->entries_total = s->entries_total;
        r->entries_change = s->entries_change;
        r->entries_equal = s->entries_equal;
        r->entries_blocked = s->entries_blocked;
        r->entries_merged = s->entries_merged;
        r->generation = s->generation;
        if (s->source != MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED)
                r->source = (int)s->source;
        r->source_changes = s->source_changes;
        r->staging_us = s->staging_us;
        r->switch_us = s->switch_us;
        r->delta_files = s->delta_files;
        r->delta_bytes = s->delta_bytes;
        r->delta_saved = s->delta_saved;
        r->delta_unsuited = s->delta_unsuited;
        r->delta_failed = s->delta_failed;
        set_text(&r->delta_text, s->delta_text);
        set_text(&r->hook, s->hook);
        set_text(&r->hook_output, s->hook_output);
}

gboolean push_phase_is_over(Moult__TransactionPhase phase)
{
        return phase == MOULT__TRANSACTION_PHASE__PHASE_NONE ||
               phase == MOULT__TRANSACTION_PHASE__PHASE_COMMITTED ||
               (phase >= MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK &&
                phase <= MOULT__TRANSACTION_PHASE__PHASE_FAILED);
}

static int compare(const struct push_progress *a, const struct push_progress *b)
{
        if (a->phase != b->phase)
                return a->phase > b->phase ? 1 : -1;
        if (a->bytes != b->bytes)
                return a->bytes > b->bytes ? 1 : -1;
        return a->entries > b->entries ? 1 : a->entries < b->entries ? -1 : 0;
}

gboolean push_progress_note(struct push_progress *best, const Moult__TransactionState *s)
{
        struct push_progress now = {s->phase, s->bytes_done,
                                    (guint64)s->entries_change + s->entries_equal + s->entries_blocked};

        if (compare(&now, best) <= 0)
                return FALSE;
        *best = now;
        return TRUE;
}

gint64 push_stall_us(const PushRecord *r, guint stall_ms)
{
        gint64 ms = stall_ms;

        if (r->state == PUSH_STATE_COMMIT || r->state == PUSH_STATE_CONFIRM)
                ms += r->options.confirm_timeout_ms;
        if (r->hook)
                ms += LIMIT_HOOK_TIMEOUT_MS;
        return ms * 1000;
}

gboolean push_report_store(Catalogue *c, PushRecord *r, GError **error)
{
        gboolean runs =
                r->state == PUSH_STATE_DONE && r->release_name && !r->options.rollback && !r->options.dry_run;
        g_autofree char *release =
                runs ? g_strdup_printf("%s %s", r->release_name, r->release_version) : NULL;
        g_autofree char *text = runs ? vm_release_text(release, r->options.selection != NULL) : NULL;

        if (!catalogue_begin(c, error))
                return FALSE;
        if (catalogue_push_update(c, r, error) && (!runs || catalogue_vm_set_release(c, r->vm, text, error)))
                return catalogue_commit(c, error);
        catalogue_rollback(c);
        return FALSE;
}
