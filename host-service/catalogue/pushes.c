/* host-service/catalogue/pushes.c - the durable state machine of one VM's part of an operation. */
#include "host-service/catalogue/pushes.h"

#include "host-service/catalogue/json.h"
#include "host-service/catalogue/push_options.h"
#include "host-service/catalogue/rollout_counts.h"
#include "host-service/catalogue/sql.h"

#define COLUMNS                                                                                              \
        "operation, vm, push_id, release_name, release_version, digest, options, state, outcome, error, "    \
        "text,"                                                                                              \
        " bytes_total, bytes_done, entries_total, entries_change, entries_equal, entries_blocked, "          \
        "generation,"                                                                                        \
        " source, source_changes, staging_us, switch_us, plug, hook, hook_output, created, updated, "        \
        "stage_started, held, entries_merged, stale, wave, held_back, begun, delta_files, delta_bytes, "     \
        "delta_saved, delta_unsuited, delta_failed, delta_text, "                                            \
        "options ->> '$.taken.id', options ->> '$.taken.name'"

void push_record_free(PushRecord *r)
{
        if (!r)
                return;
        g_free(r->operation);
        g_free(r->vm);
        g_free(r->release_name);
        g_free(r->release_version);
        g_strfreev(r->options.selection);
        g_free(r->text);
        g_free(r->plug);
        g_free(r->hook);
        g_free(r->hook_output);
        g_free(r->stale);
        g_free(r->snapshot);
        g_free(r->snapshot_name);
        g_free(r->delta_text);
        g_free(r);
}

static PushRecord *from_row(sqlite3_stmt *st)
{
        PushRecord *r = g_new0(PushRecord, 1);
        int i = 0;

        r->operation = column_text(st, i++);
        r->vm = column_text(st, i++);
        column_blob(st, i++, r->push_id, sizeof r->push_id);
        r->release_name = column_text(st, i++);
        r->release_version = column_text(st, i++);
        column_blob(st, i++, r->digest, sizeof r->digest);
        if (!push_options_from_text((const char *)sqlite3_column_text(st, i++), &r->options))
                g_warning("push of operation %s to %s: its options cannot be read", r->operation, r->vm);
        if (!push_state_parse((const char *)sqlite3_column_text(st, i++), &r->state))
                r->state = PUSH_STATE_FAILED;
        if (!push_state_parse((const char *)sqlite3_column_text(st, i++), &r->outcome))
                r->outcome = PUSH_STATE_QUEUED;
        r->error = (MoultError)column_int(st, i++);
        r->text = column_text(st, i++);
        r->bytes_total = (guint64)column_int(st, i++);
        r->bytes_done = (guint64)column_int(st, i++);
        r->entries_total = (guint32)column_int(st, i++);
        r->entries_change = (guint32)column_int(st, i++);
        r->entries_equal = (guint32)column_int(st, i++);
        r->entries_blocked = (guint32)column_int(st, i++);
        r->generation = (guint64)column_int(st, i++);
        r->source = (int)column_int(st, i++);
        r->source_changes = (guint32)column_int(st, i++);
        r->staging_us = (guint64)column_int(st, i++);
        r->switch_us = (guint64)column_int(st, i++);
        r->plug = column_text(st, i++);
        r->hook = column_text(st, i++);
        r->hook_output = column_text(st, i++);
        r->created_us = column_int(st, i++);
        r->updated_us = column_int(st, i++);
        r->stage_started_us = column_int(st, i++);
        r->held = column_int(st, i++) != 0;
        r->entries_merged = (guint32)column_int(st, i++);
        r->stale = column_text(st, i++);
        r->wave = (guint)column_int(st, i++);
        r->held_back = column_int(st, i++) != 0;
        r->begun = column_int(st, i++) != 0;
        r->delta_files = (guint32)column_int(st, i++);
        r->delta_bytes = (guint64)column_int(st, i++);
        r->delta_saved = (guint64)column_int(st, i++);
        r->delta_unsuited = (guint32)column_int(st, i++);
        r->delta_failed = (guint32)column_int(st, i++);
        r->delta_text = column_text(st, i++);
        r->snapshot = column_text(st, i++);
        r->snapshot_name = column_text(st, i++);
        return r;
}

static gboolean tell(Catalogue *c, const char *what, const char *operation, const char *vm, GError **error)
{
        g_autoptr(PushRecord) r = catalogue_push_get(c, operation, vm, error);
        g_autofree char *data = NULL, *type = NULL;

        if (!r)
                return FALSE;
        data = json_object_text(push_record_to_json(r));
        type = g_strconcat("push.", what, NULL);
        return catalogue_event_add(c, type, operation, vm, data, error);
}

static gboolean add(Catalogue *c, const PushRecord *r, GError **error)
{
        g_autofree char *options = json_object_text(push_options_to_json(&r->options));
        gint64 now = host_wall_us(c->env);

        return sql_run(c, error,
                       "INSERT INTO pushes (operation, vm, push_id, release_name, release_version, digest, "
                       "options,"
                       " state, outcome, created, updated, wave, held_back) VALUES (?, ?, ?, ?, ?, ?, ?, "
                       "'queued', 'queued', ?, ?, ?, ?)",
                       "ssbssbsiiii", r->operation, r->vm, r->push_id, sizeof r->push_id, r->release_name,
                       r->release_version, r->release_name ? r->digest : NULL, sizeof r->digest, options, now,
                       now, (gint64)r->wave, (gint64)r->held_back) &&
               tell(c, "queued", r->operation, r->vm, error);
}

gboolean catalogue_push_add(Catalogue *c, const PushRecord *r, GError **error)
{
        rollout_counts_forget(c);
        return catalogue_begin(c, error) && catalogue_end(c, add(c, r, error), error);
}

/* Kept beside the options, which say that one is wanted. */
gboolean catalogue_push_set_snapshot(Catalogue *c, const guint8 push_id[static 16], const char *snapshot,
                                     const char *name, GError **error)
{
        return sql_run(
                c, error,
                snapshot ? "UPDATE pushes SET options = json_set(options, '$.taken', "
                           "json_object('id', ?, 'name', ?)) WHERE push_id = ?"
                         : "UPDATE pushes SET options = json_remove(options, '$.taken') WHERE ? IS NULL "
                           "AND ? IS NULL AND push_id = ?",
                "ssb", snapshot, name, push_id, (gsize)16);
}

static PushRecord *one(Catalogue *c, sqlite3_stmt *st, const char *missing, GError **error)
{
        int step = st ? sql_step(c, st, error) : -1;
        PushRecord *r;

        if (step < 0)
                return NULL;
        if (step == 0) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, missing);
                return NULL;
        }
        r = from_row(st);
        sql_done(st);
        return r;
}

PushRecord *catalogue_push_get(Catalogue *c, const char *operation, const char *vm, GError **error)
{
        g_autofree char *missing = g_strdup_printf("operation %s has no push to VM \"%s\"", operation, vm);

        return one(c,
                   sql_query(c, error, "SELECT " COLUMNS " FROM pushes WHERE operation = ? AND vm = ?", "ss",
                             operation, vm),
                   missing, error);
}

PushRecord *catalogue_push_by_id(Catalogue *c, const guint8 push_id[static 16], GError **error)
{
        return one(c,
                   sql_query(c, error, "SELECT " COLUMNS " FROM pushes WHERE push_id = ?", "b", push_id,
                             (gsize)16),
                   "no push has this id", error);
}

static GPtrArray *collect(Catalogue *c, sqlite3_stmt *st, GError **error)
{
        g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)push_record_free);
        int r = -1;

        while (st && (r = sql_step(c, st, error)) == 1)
                g_ptr_array_add(list, from_row(st));
        return r < 0 ? NULL : g_steal_pointer(&list);
}

GPtrArray *catalogue_push_list(Catalogue *c, const char *operation, GError **error)
{
        return collect(c,
                       sql_query(c, error, "SELECT " COLUMNS " FROM pushes WHERE operation = ? ORDER BY vm",
                                 "s", operation),
                       error);
}

GPtrArray *catalogue_push_list_vm(Catalogue *c, const char *vm, guint limit, GError **error)
{
        return collect(c,
                       sql_query(c, error,
                                 "SELECT " COLUMNS
                                 " FROM pushes WHERE vm = ? ORDER BY operation DESC LIMIT ?",
                                 "si", vm, (gint64)limit),
                       error);
}

GPtrArray *catalogue_push_list_since(Catalogue *c, const char *vm, gint64 since_us, guint limit,
                                     GError **error)
{
        return collect(c,
                       sql_query(c, error,
                                 "SELECT " COLUMNS " FROM pushes WHERE vm = ? AND updated >= ? AND begun <> 0"
                                 " AND json_extract(options, '$.dry_run') = 0"
                                 " ORDER BY updated DESC, operation DESC LIMIT ?",
                                 "sii", vm, since_us, (gint64)limit),
                       error);
}

GPtrArray *catalogue_push_list_begun(Catalogue *c, GError **error)
{
        return collect(c,
                       sql_query(c, error,
                                 "SELECT " COLUMNS
                                 " FROM pushes WHERE final = 0 AND state NOT IN ('queued', 'connect')"
                                 " AND operation IN (SELECT id FROM operations WHERE state = 'running')"
                                 " ORDER BY operation, vm",
                                 ""),
                       error);
}

/* Wave and held_back are as they were. */
static gboolean count_change(Catalogue *c, const PushRecord *old, const PushRecord *r)
{
        PushRecord now = *old;

        now.state = r->state;
        now.outcome = r->outcome;
        now.begun = r->begun;
        return rollout_counts_move(c, old, &now);
}

static gboolean update(Catalogue *c, PushRecord *r, GError **error)
{
        g_autoptr(PushRecord) old = catalogue_push_get(c, r->operation, r->vm, error);

        if (!old)
                return FALSE;
        if (push_state_is_final(old->state)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                            "the push of operation %s to VM \"%s\" has ended already: %s", r->operation,
                            r->vm, push_state_name(old->state));
                return FALSE;
        }
        c->tally += count_change(c, old, r);
        r->updated_us = host_wall_us(c->env);
        if (r->state == PUSH_STATE_STAGE && r->stage_started_us == 0)
                r->stage_started_us = r->updated_us;
        if (!sql_run(c, error,
                     "UPDATE pushes SET state = ?, final = ?, outcome = ?, error = ?, text = ?, bytes_total "
                     "= ?,"
                     " bytes_done = ?, entries_total = ?, entries_change = ?, entries_equal = ?, "
                     "entries_blocked = ?,"
                     " generation = ?, source = ?, source_changes = ?, staging_us = ?, switch_us = ?, plug = "
                     "?,"
                     " hook = ?, hook_output = ?, updated = ?, stage_started = ?, held = ?, entries_merged = "
                     "?, stale = ?, begun = ?, delta_files = ?, delta_bytes = ?, delta_saved = ?,"
                     " delta_unsuited = ?, delta_failed = ?, delta_text = ? WHERE operation = "
                     "? AND vm "
                     "= ?",
                     "sisisiiiiiiiiiiisssiiiisiiiiiisss", push_state_name(r->state),
                     (gint64)push_state_is_final(r->state), push_state_name(r->outcome), (gint64)r->error,
                     r->text, (gint64)r->bytes_total, (gint64)r->bytes_done, (gint64)r->entries_total,
                     (gint64)r->entries_change, (gint64)r->entries_equal, (gint64)r->entries_blocked,
                     (gint64)r->generation, (gint64)r->source, (gint64)r->source_changes,
                     (gint64)r->staging_us, (gint64)r->switch_us, r->plug, r->hook, r->hook_output,
                     r->updated_us, r->stage_started_us, (gint64)r->held, (gint64)r->entries_merged, r->stale,
                     (gint64)r->begun, (gint64)r->delta_files, (gint64)r->delta_bytes, (gint64)r->delta_saved,
                     (gint64)r->delta_unsuited, (gint64)r->delta_failed, r->delta_text, r->operation, r->vm))
                return FALSE;
        return tell(c, old->state == r->state ? "progress" : push_state_name(r->state), r->operation, r->vm,
                    error);
}

gboolean catalogue_push_update(Catalogue *c, PushRecord *r, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, update(c, r, error), error);
}

static gboolean end_held_back(Catalogue *c, const char *operation, const char *vm, PushState state,
                              MoultError error_code, const char *text, GError **error)
{
        g_autoptr(PushRecord) r = catalogue_push_get(c, operation, vm, error);

        if (!r)
                return FALSE;
        if (!r->held_back) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                            "the push of operation %s to VM \"%s\" is not held back", operation, vm);
                return FALSE;
        }
        r->state = r->outcome = state;
        r->error = error_code;
        g_free(r->text);
        r->text = g_strdup(text);
        return update(c, r, error) &&
               sql_run(c, error, "UPDATE pushes SET held_back = 0 WHERE operation = ? AND vm = ?", "ss",
                       operation, vm);
}

gboolean catalogue_push_end_held_back(Catalogue *c, const char *operation, const char *vm, PushState state,
                                      MoultError error_code, const char *text, GError **error)
{
        return catalogue_begin(c, error) &&
               catalogue_end(c, end_held_back(c, operation, vm, state, error_code, text, error), error);
}

PushRecord *catalogue_push_held(Catalogue *c, const char *vm, GError **error)
{
        return one(c,
                   sql_query(c, error,
                             "SELECT " COLUMNS " FROM pushes WHERE vm = ? AND held <> 0 AND final <> 0"
                             " ORDER BY operation DESC LIMIT 1",
                             "s", vm),
                   "the guest holds no push that has ended", error);
}

gboolean catalogue_push_let_go(Catalogue *c, const guint8 push_id[static 16], GError **error)
{
        return sql_run(c, error, "UPDATE pushes SET held = 0 WHERE push_id = ?", "b", push_id, (gsize)16);
}

GPtrArray *catalogue_push_left_plugged(Catalogue *c, GError **error)
{
        return collect(c,
                       sql_query(c, error,
                                 "SELECT " COLUMNS " FROM pushes WHERE plug IS NOT NULL AND final <> 0"
                                 " ORDER BY vm, operation",
                                 ""),
                       error);
}

gboolean catalogue_push_unplugged(Catalogue *c, const char *vm, GError **error)
{
        return sql_run(c, error,
                       "UPDATE pushes SET plug = NULL WHERE vm = ? AND plug IS NOT NULL AND final <> 0", "s",
                       vm);
}

gboolean catalogue_push_uses_digest(Catalogue *c, const guint8 digest[static DIGEST_SIZE])
{
        return sql_number(c, 1, "SELECT count(*) FROM pushes WHERE digest = ? AND final = 0", "b", digest,
                          (gsize)DIGEST_SIZE) > 0;
}
