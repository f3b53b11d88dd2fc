/* host-service/catalogue/event_log.c - the numbered log of changes. */
#include "host-service/catalogue/event_log.h"

#include "host-service/catalogue/sql.h"

void event_record_free(EventRecord *r)
{
        if (!r)
                return;
        g_free(r->type);
        g_free(r->operation);
        g_free(r->vm);
        g_free(r->data);
        g_free(r);
}

gboolean catalogue_event_add(Catalogue *c, const char *type, const char *operation, const char *vm,
                             const char *data, GError **error)
{
        gboolean ok;

        if (!catalogue_begin(c, error))
                return FALSE;
        ok = sql_run(c, error, "INSERT INTO events (time, type, operation, vm, data) VALUES (?, ?, ?, ?, ?)",
                     "issss", host_wall_us(c->env), type, operation, vm, data);
        if (ok)
                c->pending_seq = sqlite3_last_insert_rowid(c->db);
        return catalogue_end(c, ok, error);
}

GPtrArray *catalogue_event_list(Catalogue *c, gint64 after, const char *operation, const char *vm,
                                guint limit, GError **error)
{
        g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)event_record_free);
        sqlite3_stmt *st;
        int r;

        /* One text for each combination: each has its index. */
        if (operation && vm)
                st = sql_query(c, error,
                               "SELECT seq, time, type, operation, vm, data FROM events WHERE seq > ? AND "
                               "operation = ?"
                               " AND vm = ? ORDER BY seq LIMIT ?",
                               "issi", after, operation, vm, (gint64)limit);
        else if (operation)
                st = sql_query(c, error,
                               "SELECT seq, time, type, operation, vm, data FROM events WHERE seq > ? AND "
                               "operation = ?"
                               " ORDER BY seq LIMIT ?",
                               "isi", after, operation, (gint64)limit);
        else if (vm)
                st = sql_query(
                        c, error,
                        "SELECT seq, time, type, operation, vm, data FROM events WHERE seq > ? AND vm = ?"
                        " ORDER BY seq LIMIT ?",
                        "isi", after, vm, (gint64)limit);
        else
                st = sql_query(
                        c, error,
                        "SELECT seq, time, type, operation, vm, data FROM events WHERE seq > ? ORDER BY seq"
                        " LIMIT ?",
                        "ii", after, (gint64)limit);
        if (!st)
                return NULL;
        while ((r = sql_step(c, st, error)) == 1) {
                EventRecord *e = g_new0(EventRecord, 1);

                e->seq = column_int(st, 0);
                e->time_us = column_int(st, 1);
                e->type = column_text(st, 2);
                e->operation = column_text(st, 3);
                e->vm = column_text(st, 4);
                e->data = column_text(st, 5);
                g_ptr_array_add(list, e);
        }
        return r < 0 ? NULL : g_steal_pointer(&list);
}

gint64 catalogue_event_last(Catalogue *c)
{
        return MAX(sql_number(c, 0, "SELECT max(seq) FROM events", ""), c->forgotten);
}

gint64 catalogue_event_forgotten(Catalogue *c)
{
        return c->forgotten;
}

gboolean catalogue_event_prune(Catalogue *c, gint64 keep, GError **error)
{
        gint64 limit = catalogue_event_last(c) - keep;
        gboolean ok;

        if (limit <= c->forgotten)
                return TRUE;
        if (!catalogue_begin(c, error))
                return FALSE;
        ok = sql_run(c, error, "DELETE FROM events WHERE seq <= ?", "i", limit) &&
             sql_run(c, error, "UPDATE meta SET value = ? WHERE key = 'events_forgotten'", "i", limit);
        if (!catalogue_end(c, ok, error))
                return FALSE;
        c->forgotten = limit;
        return TRUE;
}
