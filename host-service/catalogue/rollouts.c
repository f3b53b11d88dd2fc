/* host-service/catalogue/rollouts.c - rows of rollouts, and what they do to their pushes. */
#include "host-service/catalogue/rollouts.h"

#include "host-service/catalogue/json.h"
#include "host-service/catalogue/rollout_counts.h"
#include "host-service/catalogue/sql.h"

static const char *const states[ROLLOUT_STATE_MAX] = {
        [ROLLOUT_RUNNING] = "running",           [ROLLOUT_PAUSING] = "pausing",
        [ROLLOUT_STOPPED] = "stopped",           [ROLLOUT_ABORTING] = "aborting",
        [ROLLOUT_ROLLING_BACK] = "rolling-back", [ROLLOUT_DONE] = "done",
        [ROLLOUT_ABORTED] = "aborted",           [ROLLOUT_ROLLED_BACK] = "rolled-back",
};

const char *rollout_state_name(RolloutState s)
{
        g_assert(s >= 0 && s < ROLLOUT_STATE_MAX);
        return states[s];
}

gboolean rollout_state_parse(const char *name, RolloutState *ret)
{
        for (int i = 0; i < ROLLOUT_STATE_MAX; i++)
                if (g_strcmp0(name, states[i]) == 0) {
                        *ret = (RolloutState)i;
                        return TRUE;
                }
        return FALSE;
}

void rollout_record_free(RolloutRecord *r)
{
        if (!r)
                return;
        g_free(r->operation);
        g_free(r->text);
        g_free(r->rollback);
        g_free(r);
}

static RolloutRecord *from_row(sqlite3_stmt *st)
{
        RolloutRecord *r = g_new0(RolloutRecord, 1);

        r->operation = column_text(st, 0);
        if (!rollout_state_parse((const char *)sqlite3_column_text(st, 1), &r->state))
                r->state = ROLLOUT_STOPPED;
        r->wave = (int)column_int(st, 2);
        r->waves = (guint)column_int(st, 3);
        r->canary = column_int(st, 4) != 0;
        r->max_failures = (guint)column_int(st, 5);
        r->pause_ms = column_int(st, 6);
        r->accepted = (guint)column_int(st, 7);
        r->next_us = column_int(st, 8);
        r->text = column_text(st, 9);
        r->take_back = column_int(st, 10) != 0;
        r->rollback = column_text(st, 11);
        return r;
}

RolloutRecord *catalogue_rollout_get(Catalogue *c, const char *operation, GError **error)
{
        sqlite3_stmt *st = sql_query(c, error,
                                     "SELECT operation, state, wave, waves, canary, max_failures, pause_ms,"
                                     " accepted, next, text, take_back, rollback FROM rollouts"
                                     " WHERE operation = ?",
                                     "s", operation);
        int step = st ? sql_step(c, st, error) : -1;
        RolloutRecord *r;

        if (step < 0)
                return NULL;
        if (step == 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "there is no rollout %s; 'moult rollout list' shows those that there are",
                            operation);
                return NULL;
        }
        r = from_row(st);
        sql_done(st);
        return r;
}

static gboolean tell(Catalogue *c, const char *operation, GError **error)
{
        g_autoptr(RolloutRecord) r = catalogue_rollout_get(c, operation, error);
        g_autofree char *data = NULL, *type = NULL;
        struct rollout_counts n;

        if (!r || !catalogue_rollout_count(c, operation, -1, &n, error))
                return FALSE;
        data = json_object_text(rollout_record_to_json(r, &n));
        type = g_strconcat("rollout.", rollout_state_name(r->state), NULL);
        return catalogue_event_add(c, type, operation, NULL, data, error);
}

static gboolean add(Catalogue *c, const RolloutRecord *r, GError **error)
{
        c->tally++;
        return sql_run(c, error,
                       "INSERT INTO rollouts (operation, state, wave, waves, canary, max_failures, pause_ms)"
                       " VALUES (?, 'running', -1, ?, ?, ?, ?)",
                       "siiii", r->operation, (gint64)r->waves, (gint64)r->canary, (gint64)r->max_failures,
                       r->pause_ms) &&
               tell(c, r->operation, error);
}

gboolean catalogue_rollout_add(Catalogue *c, const RolloutRecord *r, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, add(c, r, error), error);
}

static gboolean update(Catalogue *c, const RolloutRecord *r, GError **error)
{
        g_autoptr(RolloutRecord) old = catalogue_rollout_get(c, r->operation, error);

        if (!old)
                return FALSE;
        if (rollout_state_is_final(old->state)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE, "rollout %s has ended already: %s",
                            r->operation, rollout_state_name(old->state));
                return FALSE;
        }
        c->tally++;
        return sql_run(c, error,
                       "UPDATE rollouts SET state = ?, wave = ?, canary = ?, accepted = ?, next = ?, text = "
                       "?,"
                       " take_back = ?, rollback = ? WHERE operation = ?",
                       "siiiisiss", rollout_state_name(r->state), (gint64)r->wave, (gint64)r->canary,
                       (gint64)r->accepted, r->next_us, r->text, (gint64)r->take_back, r->rollback,
                       r->operation) &&
               tell(c, r->operation, error);
}

gboolean catalogue_rollout_update(Catalogue *c, const RolloutRecord *r, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, update(c, r, error), error);
}

guint64 catalogue_rollout_tally(const Catalogue *c)
{
        return c->tally;
}

gboolean catalogue_rollout_let_begin(Catalogue *c, const char *operation, int wave, GError **error)
{
        rollout_counts_forget(c);
        return sql_run(c, error,
                       "UPDATE pushes SET held_back = 0 WHERE operation = ? AND wave = ? AND final = 0", "si",
                       operation, (gint64)wave);
}

static gboolean hold_back(Catalogue *c, const char *operation, const GPtrArray *vms, GError **error)
{
        for (guint i = 0; i < vms->len; i++) {
                g_autoptr(PushRecord) r = catalogue_push_get(c, operation, vms->pdata[i], error);

                if (!r)
                        return FALSE;
                if (push_state_is_final(r->state))
                        continue;
                r->state = PUSH_STATE_QUEUED;
                if (!catalogue_push_update(c, r, error) ||
                    !sql_run(c, error, "UPDATE pushes SET held_back = 1 WHERE operation = ? AND vm = ?", "ss",
                             operation, r->vm))
                        return FALSE;
        }
        rollout_counts_forget(c);
        return TRUE;
}

gboolean catalogue_rollout_hold_back(Catalogue *c, const char *operation, const GPtrArray *vms,
                                     GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, hold_back(c, operation, vms, error), error);
}

static gboolean cancel_waiting(Catalogue *c, const char *operation, const char *text, GError **error)
{
        g_autoptr(GPtrArray) pushes = catalogue_push_list(c, operation, error);

        if (!pushes)
                return FALSE;
        for (guint i = 0; i < pushes->len; i++) {
                const PushRecord *r = pushes->pdata[i];

                if (r->held_back && !catalogue_push_end_held_back(c, operation, r->vm, PUSH_STATE_CANCELLED,
                                                                  MOULT_ERROR_CANCELLED, text, error))
                        return FALSE;
        }
        return TRUE;
}

gboolean catalogue_rollout_cancel_waiting(Catalogue *c, const char *operation, const char *text,
                                          GError **error)
{
        return catalogue_begin(c, error) &&
               catalogue_end(c, cancel_waiting(c, operation, text, error), error);
}
