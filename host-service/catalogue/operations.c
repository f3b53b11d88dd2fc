/* host-service/catalogue/operations.c - operations: ids, states, progress. */
#include "host-service/catalogue/operations.h"

#include <string.h>

#include "host-service/catalogue/json.h"
#include "host-service/catalogue/sql.h"

#define COLUMNS                                                                                              \
        "id, kind, state, request, result, error, text, created, updated, cancel_requested, done, total, "   \
        "guest"
#define LIST_DEFAULT 100

void operation_record_free(OperationRecord *r)
{
        if (!r)
                return;
        g_free(r->id);
        g_free(r->kind);
        g_free(r->request);
        g_free(r->result);
        g_free(r->text);
        g_free(r->guest);
        g_free(r);
}

char *operation_id_new(Catalogue *c)
{
        guint64 ms = (guint64)(host_wall_us(c->env) / 1000);
        char id[OPERATION_ID_LENGTH + 1] = "";
        guint8 bits[16];

        if (ms <= c->last_ms) {
                /* The same millisecond, or the clock went back: still ascending, by counting the random part
                 * up. */
                int i = sizeof c->last_random - 1;

                ms = c->last_ms;
                while (i >= 0 && ++c->last_random[i] == 0)
                        i--;
                if (i < 0)
                        ms++;
        } else {
                host_random_fill(c->env, c->last_random, sizeof c->last_random);
                c->last_random[0] &= 0x7f; /* room to count */
        }
        c->last_ms = ms;
        for (int i = 0; i < 6; i++)
                bits[i] = (guint8)(ms >> (40 - 8 * i));
        memcpy(bits + 6, c->last_random, sizeof c->last_random);
        /* 128 bits as 26 digits of 5: the first digit has only 3 of them. */
        for (int i = 0; i < OPERATION_ID_LENGTH; i++) {
                int bit = 5 * i - 2;
                guint v = 0;

                for (int b = bit; b < bit + 5; b++)
                        v = v << 1 | (b < 0 ? 0 : (guint)(bits[b / 8] >> (7 - b % 8)) & 1);
                id[i] = OPERATION_ID_DIGITS[v];
        }
        return g_strdup(id);
}

static OperationRecord *from_row(sqlite3_stmt *st)
{
        OperationRecord *r = g_new0(OperationRecord, 1);

        r->id = column_text(st, 0);
        r->kind = column_text(st, 1);
        /* Our own word; a later moultd's is refused by its schema version. */
        if (!operation_state_parse((const char *)sqlite3_column_text(st, 2), &r->state))
                r->state = OPERATION_FAILED;
        r->request = column_text(st, 3);
        r->result = column_text(st, 4);
        r->error = (MoultError)column_int(st, 5);
        r->text = column_text(st, 6);
        r->created_us = column_int(st, 7);
        r->updated_us = column_int(st, 8);
        r->cancel_requested = column_int(st, 9) != 0;
        r->done = (guint64)column_int(st, 10);
        r->total = (guint64)column_int(st, 11);
        r->guest = column_text(st, 12);
        return r;
}

static gboolean tell(Catalogue *c, const char *what, const char *id, GError **error)
{
        g_autoptr(OperationRecord) r = catalogue_operation_get(c, id, error);
        g_autofree char *data = NULL, *type = NULL;

        if (!r)
                return FALSE;
        data = json_object_text(operation_record_to_json(r));
        type = g_strconcat("operation.", what, NULL);
        return catalogue_event_add(c, type, id, NULL, data, error);
}

static gboolean add(Catalogue *c, const char *id, const char *kind, const char *request, const char *guest,
                    GError **error)
{
        gint64 now = host_wall_us(c->env);

        return sql_run(c, error,
                       "INSERT INTO operations (id, kind, state, request, created, updated, guest) VALUES "
                       "(?, ?, "
                       "'queued', ?, ?, ?, ?)",
                       "sssiis", id, kind, request, now, now, guest) &&
               tell(c, "queued", id, error);
}

gboolean catalogue_operation_add(Catalogue *c, const char *id, const char *kind, const char *request,
                                 GError **error)
{
        return catalogue_operation_add_for(c, id, kind, request, NULL, error);
}

gboolean catalogue_operation_add_for(Catalogue *c, const char *id, const char *kind, const char *request,
                                     const char *guest, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, add(c, id, kind, request, guest, error), error);
}

OperationRecord *catalogue_operation_get(Catalogue *c, const char *id, GError **error)
{
        sqlite3_stmt *st = sql_query(c, error, "SELECT " COLUMNS " FROM operations WHERE id = ?", "s", id);
        int step = st ? sql_step(c, st, error) : -1;
        OperationRecord *r;

        if (step < 0)
                return NULL;
        if (step == 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "there is no operation %s", id);
                return NULL;
        }
        r = from_row(st);
        sql_done(st);
        return r;
}

static GPtrArray *collect(Catalogue *c, sqlite3_stmt *st, GError **error)
{
        g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)operation_record_free);
        int r = -1;

        while (st && (r = sql_step(c, st, error)) == 1)
                g_ptr_array_add(list, from_row(st));
        return r < 0 ? NULL : g_steal_pointer(&list);
}

GPtrArray *catalogue_operation_list(Catalogue *c, const struct operation_filter *f, GError **error)
{
        return collect(c,
                       sql_query(c, error,
                                 "SELECT " COLUMNS " FROM operations WHERE (?1 IS NULL OR state = ?1)"
                                 " AND (?2 IS NULL OR kind = ?2) AND (?3 IS NULL OR id < ?3)"
                                 " ORDER BY id DESC LIMIT ?4",
                                 "sssi",
                                 f->state >= 0 ? operation_state_name((OperationState)f->state) : NULL,
                                 f->kind, f->before, (gint64)(f->limit ? f->limit : LIST_DEFAULT)),
                       error);
}

GPtrArray *catalogue_operation_unfinished(Catalogue *c, GError **error)
{
        return collect(c,
                       sql_query(c, error,
                                 "SELECT " COLUMNS
                                 " FROM operations WHERE state IN ('queued', 'running') ORDER BY id",
                                 ""),
                       error);
}

gint64 catalogue_operation_count_open(Catalogue *c, const char *guest)
{
        return sql_number(c, -1,
                          "SELECT count(*) FROM operations WHERE state IN ('queued', 'running')"
                          " AND guest IS ?",
                          "s", guest);
}

/* The row must be there and not final. */
static gboolean check_open(Catalogue *c, const char *id, GError **error)
{
        g_autoptr(OperationRecord) r = catalogue_operation_get(c, id, error);

        if (r && operation_state_is_final(r->state)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE, "operation %s has ended already: %s",
                            id, operation_state_name(r->state));
                return FALSE;
        }
        return r != NULL;
}

static gboolean set_state(Catalogue *c, const char *id, OperationState state, const char *result,
                          const GError *why, GError **error)
{
        return check_open(c, id, error) &&
               sql_run(c, error,
                       "UPDATE operations SET state = ?, result = ?, error = ?, text = ?, updated = ? WHERE "
                       "id = ?",
                       "ssisis", operation_state_name(state), result, (gint64)moult_error_code(why),
                       why ? why->message : NULL, host_wall_us(c->env), id) &&
               tell(c, operation_state_name(state), id, error);
}

gboolean catalogue_operation_set_state(Catalogue *c, const char *id, OperationState state, const char *result,
                                       const GError *why, GError **error)
{
        return catalogue_begin(c, error) &&
               catalogue_end(c, set_state(c, id, state, result, why, error), error);
}

static gboolean progress(Catalogue *c, const char *id, guint64 done, guint64 total, GError **error)
{
        return check_open(c, id, error) &&
               sql_run(c, error, "UPDATE operations SET done = ?, total = ?, updated = ? WHERE id = ?",
                       "iiis", (gint64)done, (gint64)total, host_wall_us(c->env), id) &&
               tell(c, "progress", id, error);
}

gboolean catalogue_operation_progress(Catalogue *c, const char *id, guint64 done, guint64 total,
                                      GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, progress(c, id, done, total, error), error);
}

static gboolean request_cancel(Catalogue *c, const char *id, GError **error)
{
        return check_open(c, id, error) &&
               sql_run(c, error, "UPDATE operations SET cancel_requested = 1, updated = ? WHERE id = ?", "is",
                       host_wall_us(c->env), id) &&
               tell(c, "cancel-requested", id, error);
}

gboolean catalogue_operation_request_cancel(Catalogue *c, const char *id, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, request_cancel(c, id, error), error);
}
