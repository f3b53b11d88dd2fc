/* host-service/catalogue/counts.c - how much of everything the catalogue has. */
#include "host-service/catalogue/counts.h"

#include "host-service/catalogue/event_log.h"
#include "host-service/catalogue/sql.h"

/* Names and numbers, by a parser of names. */
static gboolean count_states(Catalogue *c, const char *sql, gint64 *counts,
                             gboolean (*parse)(const char *name, guint *ret), GError **error)
{
        sqlite3_stmt *st = sql_query(c, error, sql, "");
        int r = st ? 1 : -1;

        while (st && (r = sql_step(c, st, error)) == 1) {
                g_autofree char *name = column_text(st, 0);
                guint i;

                if (parse(name, &i))
                        counts[i] = column_int(st, 1);
        }
        return r == 0;
}

static gboolean parse_push(const char *name, guint *ret)
{
        PushState s;

        if (!push_state_parse(name, &s))
                return FALSE;
        *ret = s;
        return TRUE;
}

static gboolean parse_operation(const char *name, guint *ret)
{
        OperationState s;

        if (!operation_state_parse(name, &s))
                return FALSE;
        *ret = s;
        return TRUE;
}

gboolean catalogue_count(Catalogue *c, struct catalogue_counts *ret, GError **error)
{
        struct catalogue_counts n = {0};

        if (!count_states(c, "SELECT state, count(*) FROM pushes WHERE final = 0 GROUP BY state", n.pushes,
                          parse_push, error) ||
            !count_states(c,
                          "SELECT state, count(*) FROM operations WHERE state IN ('queued', 'running')"
                          " GROUP BY state",
                          n.operations, parse_operation, error) ||
            !catalogue_drift_count(c, n.drift, error))
                return FALSE;
        n.vms = sql_number(c, 0, "SELECT count(*) FROM vms", "");
        n.releases = sql_number(c, 0, "SELECT count(*) FROM releases", "");
        n.release_bytes = sql_number(c, 0, "SELECT coalesce(sum(size), 0) FROM releases", "");
        n.file_bytes = sql_number(
                c, 0, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", "");
        n.schedules = sql_number(c, 0, "SELECT count(*) FROM schedules", "");
        n.schedules_failing = sql_number(c, 0, "SELECT count(*) FROM schedules WHERE failures > 0", "");
        n.events = catalogue_event_last(c);
        *ret = n;
        return TRUE;
}

gint64 catalogue_event_count(Catalogue *c, const char *type, gint64 after, gint64 until)
{
        return sql_number(c, 0, "SELECT count(*) FROM events WHERE seq > ? AND seq <= ? AND type = ?", "iis",
                          after, until, type);
}

GPtrArray *catalogue_push_list_ended(Catalogue *c, gint64 after, gint64 *ret_last, GError **error)
{
        g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)push_record_free);
        g_autoptr(GPtrArray) names =
                g_ptr_array_new_with_free_func(g_free); /* operation, VM, operation, ... */
        gint64 last = catalogue_event_last(c);
        sqlite3_stmt *st = sql_query(c, error,
                                     "SELECT operation, vm FROM events WHERE seq > ? AND seq <= ? AND type IN"
                                     " ('push.done', 'push.rolled-back', 'push.refused', 'push.failed',"
                                     " 'push.cancelled') ORDER BY seq",
                                     "ii", after, last);
        int r = st ? 1 : -1;

        while (st && (r = sql_step(c, st, error)) == 1) {
                g_ptr_array_add(names, column_text(st, 0));
                g_ptr_array_add(names, column_text(st, 1));
        }
        if (r < 0)
                return NULL;
        for (guint i = 0; i < names->len; i += 2) {
                PushRecord *p = catalogue_push_get(c, names->pdata[i], names->pdata[i + 1], NULL);

                if (p) /* else it is forgotten already */
                        g_ptr_array_add(list, p);
        }
        *ret_last = last;
        return g_steal_pointer(&list);
}
