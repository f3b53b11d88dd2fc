/* host-service/catalogue/retention.c - forgetting what is over, in bounded steps. */
#include "host-service/catalogue/retention.h"

#include "host-service/catalogue/event_log.h"
#include "host-service/catalogue/idempotency.h"
#include "host-service/catalogue/pushes.h"
#include "host-service/catalogue/rollout_counts.h"
#include "host-service/catalogue/sql.h"

#define ENDED "state NOT IN ('queued', 'running')"
/* The window of a VM's newest push may still be plugged: leftovers (push/) knows it from this row only. */
#define IS_LEFTOVER                                                                                          \
        "EXISTS (SELECT 1 FROM pushes p WHERE p.operation = o.id AND p.plug IS NOT NULL"                     \
        " AND p.operation = (SELECT max(q.operation) FROM pushes q WHERE q.vm = p.vm))"

/* What is left of a step. */
static gint64 spent(Catalogue *c, gint64 begin)
{
        return sqlite3_total_changes64(c->db) - begin;
}

/* --- events */

static gboolean forget_events(Catalogue *c, const struct retention *keep, gint64 rows, gboolean *more,
                              GError **error)
{
        gint64 last = catalogue_event_last(c), first = catalogue_event_forgotten(c) + 1;
        gint64 excess = last - first + 1 - keep->events, bytes;

        if (excess <= 0) {
                bytes = sql_number(c, 0, "SELECT value FROM meta WHERE key = 'events_bytes'", "") -
                        keep->event_bytes;
                if (bytes <= 0)
                        return TRUE;
                /* As many of the oldest as have that many bytes, and one more for what is left over. */
                excess = 1 + sql_number(c, 0,
                                        "SELECT count(*) FROM (SELECT sum(length(CAST(data AS BLOB)))"
                                        " OVER (ORDER BY seq) AS so_far FROM"
                                        " (SELECT seq, data FROM events ORDER BY seq LIMIT ?))"
                                        " WHERE so_far < ?",
                                        "ii", rows, bytes);
        }
        if (excess > rows) {
                excess = rows;
                *more = TRUE;
        }
        return catalogue_event_prune(c, last - first + 1 - excess, error);
}

/* --- plans */

static gboolean forget_plans(Catalogue *c, const struct retention *keep, gint64 rows, gboolean *more,
                             GError **error)
{
        gint64 before = host_wall_us(c->env) - keep->plan_age_us, begin = sqlite3_total_changes64(c->db);

        while (spent(c, begin) < rows) {
                g_autofree char *operation = NULL, *vm = NULL;
                sqlite3_stmt *st = sql_query(c, error,
                                             "SELECT operation, vm FROM pushes WHERE plan_total > 0 AND final"
                                             " AND updated < ? LIMIT 1",
                                             "i", before);
                int r = st ? sql_step(c, st, error) : -1;

                if (r <= 0)
                        return r == 0;
                operation = column_text(st, 0);
                vm = column_text(st, 1);
                sql_done(st);
                if (!catalogue_plan_forget(c, operation, vm, rows, error))
                        return FALSE;
        }
        *more = TRUE;
        return TRUE;
}

/* --- operations */

static gboolean take_ids(Catalogue *c, sqlite3_stmt *st, GPtrArray *ids, GError **error)
{
        int r = -1;

        while (st && (r = sql_step(c, st, error)) == 1)
                g_ptr_array_add(ids, column_text(st, 0));
        return r == 0;
}

/* Ids that may go, in three ways; some may be named twice. */
static GPtrArray *find_ended(Catalogue *c, const struct retention *keep, gint64 limit, GError **error)
{
        g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);

        if (take_ids(c,
                     sql_query(c, error,
                               "SELECT id FROM operations o WHERE " ENDED
                               " AND updated < ? AND NOT " IS_LEFTOVER " ORDER BY updated LIMIT ?",
                               "ii", host_wall_us(c->env) - keep->operation_age_us, limit),
                     ids, error) &&
            take_ids(c,
                     sql_query(c, error,
                               "SELECT id FROM (SELECT id FROM operations WHERE " ENDED
                               " ORDER BY updated DESC LIMIT -1 OFFSET ?) o WHERE NOT " IS_LEFTOVER
                               " LIMIT ?",
                               "ii", keep->operations, limit),
                     ids, error) &&
            take_ids(c,
                     sql_query(c, error,
                               "SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY guest ORDER BY id"
                               " DESC) AS n FROM operations WHERE guest IS NOT NULL AND " ENDED ") o"
                               " WHERE n > ? AND NOT " IS_LEFTOVER " LIMIT ?",
                               "ii", keep->operations_per_guest, limit),
                     ids, error))
                return g_steal_pointer(&ids);
        return NULL;
}

/* With its pushes. Their plans first, as they may be long. */
static gboolean forget_operation(Catalogue *c, const char *id, gint64 rows, gint64 begin, GError **error)
{
        g_autoptr(GPtrArray) pushes = catalogue_push_list(c, id, error);

        if (!pushes)
                return FALSE;
        for (guint i = 0; i < pushes->len; i++) {
                gint64 left = rows - spent(c, begin);

                if (left <= 0)
                        return TRUE; /* the next step goes on */
                if (!catalogue_plan_forget(c, id, ((PushRecord *)pushes->pdata[i])->vm, left, error))
                        return FALSE;
        }
        return spent(c, begin) >= rows ||
               sql_run(c, error, "DELETE FROM operations WHERE id = ? AND " ENDED, "s", id);
}

static gboolean forget_operations(Catalogue *c, const struct retention *keep, gint64 rows, gboolean *more,
                                  GError **error)
{
        gint64 begin = sqlite3_total_changes64(c->db);
        g_autoptr(GPtrArray) ids = find_ended(c, keep, rows, error);
        gboolean ok = ids && (ids->len == 0 || catalogue_begin(c, error));

        if (!ok || ids->len == 0)
                return ok;
        for (guint i = 0; ok && i < ids->len && spent(c, begin) < rows; i++)
                ok = forget_operation(c, ids->pdata[i], rows, begin, error);
        *more |= spent(c, begin) >= rows;
        rollout_counts_forget(c);
        return catalogue_end(c, ok, error);
}

gboolean catalogue_forget(Catalogue *c, const struct retention *keep, gint64 rows, gboolean *ret_more,
                          GError **error)
{
        *ret_more = FALSE;
        return forget_events(c, keep, rows, ret_more, error) &&
               forget_plans(c, keep, rows, ret_more, error) &&
               forget_operations(c, keep, rows, ret_more, error) &&
               catalogue_idempotency_prune(c, keep->idempotency_age_us, error);
}
