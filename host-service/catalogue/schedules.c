/* host-service/catalogue/schedules.c - rows of schedules. */
#include "host-service/catalogue/schedules.h"

#include "host-service/catalogue/json.h"
#include "host-service/catalogue/sql.h"

void schedule_record_free(ScheduleRecord *r)
{
        if (!r)
                return;
        g_free(r->vm);
        g_free(r->options);
        g_free(r->operation);
        g_free(r->last_text);
        g_free(r);
}

/* ---- writing ---- */

static gboolean tell(Catalogue *c, const char *what, const ScheduleRecord *r, GError **error)
{
        g_autofree char *type = g_strconcat("schedule.", what, NULL);
        g_autofree char *data = json_object_text(schedule_record_to_json(r));

        return catalogue_event_add(c, type, NULL, r->vm, data, error);
}

static gboolean set(Catalogue *c, const ScheduleRecord *r, GError **error)
{
        g_autoptr(VmRecord) vm = catalogue_vm_get(c, r->vm, error);

        return vm &&
               sql_run(c, error,
                       "INSERT INTO schedules (vm, every, at_minute, options, since, next, last, last_ok,"
                       " failures) VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0) ON CONFLICT (vm) DO UPDATE SET"
                       " every = excluded.every, at_minute = excluded.at_minute, options = excluded.options,"
                       " since = excluded.since, next = excluded.next",
                       "siisii", r->vm, r->every_us, (gint64)r->at_minute, r->options, r->since_us,
                       r->next_us) &&
               tell(c, "set", r, error);
}

gboolean catalogue_schedule_set(Catalogue *c, const ScheduleRecord *r, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, set(c, r, error), error);
}

static gboolean take_away(Catalogue *c, const char *vm, GError **error)
{
        g_autoptr(GError) why = NULL;
        g_autoptr(ScheduleRecord) r = catalogue_schedule_get(c, vm, &why);

        if (why) {
                g_propagate_error(error, g_steal_pointer(&why));
                return FALSE;
        }
        if (r)
                return sql_run(c, error, "DELETE FROM schedules WHERE vm = ?", "s", vm) &&
                       tell(c, "removed", r, error);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "VM \"%s\" has no schedule of snapshots", vm);
        return FALSE;
}

gboolean catalogue_schedule_remove(Catalogue *c, const char *vm, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, take_away(c, vm, error), error);
}

static gboolean update(Catalogue *c, const ScheduleRecord *r, const char *event, GError **error)
{
        return sql_run(c, error,
                       "UPDATE schedules SET next = ?, operation = ?, last = ?, last_ok = ?, last_text = ?,"
                       " failures = ? WHERE vm = ?",
                       "isiisis", r->next_us, r->operation, r->last_us, (gint64)r->last_ok, r->last_text,
                       (gint64)r->failures, r->vm) &&
               (!event || tell(c, event, r, error));
}

gboolean catalogue_schedule_update(Catalogue *c, const ScheduleRecord *r, const char *event, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, update(c, r, event, error), error);
}

/* ---- reading ---- */

#define COLUMNS "vm, every, at_minute, options, since, next, operation, last, last_ok, last_text, failures"

static ScheduleRecord *from_row(sqlite3_stmt *st)
{
        ScheduleRecord *r = g_new0(ScheduleRecord, 1);

        r->vm = column_text(st, 0);
        r->every_us = column_int(st, 1);
        r->at_minute = (gint)column_int(st, 2);
        r->options = column_text(st, 3);
        r->since_us = column_int(st, 4);
        r->next_us = column_int(st, 5);
        r->operation = column_text(st, 6);
        r->last_us = column_int(st, 7);
        r->last_ok = column_int(st, 8) != 0;
        r->last_text = column_text(st, 9);
        r->failures = (guint)column_int(st, 10);
        return r;
}

ScheduleRecord *catalogue_schedule_get(Catalogue *c, const char *vm, GError **error)
{
        sqlite3_stmt *st = sql_query(c, error, "SELECT " COLUMNS " FROM schedules WHERE vm = ?", "s", vm);
        ScheduleRecord *r;

        if (!st || sql_step(c, st, error) <= 0)
                return NULL;
        r = from_row(st);
        sql_done(st);
        return r;
}

GPtrArray *catalogue_schedule_list(Catalogue *c, GError **error)
{
        g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify)schedule_record_free);
        sqlite3_stmt *st = sql_query(c, error, "SELECT " COLUMNS " FROM schedules ORDER BY next, vm", "");
        int step = -1;

        while (st && (step = sql_step(c, st, error)) > 0)
                g_ptr_array_add(all, from_row(st));
        return step == 0 ? g_steal_pointer(&all) : NULL;
}

/* ---- telling ---- */

static JsonObject *last_to_json(const ScheduleRecord *r)
{
        JsonObject *o = json_object_new();

        json_object_set_time(o, "ended", r->last_us);
        json_object_set_boolean_member(o, "ok", r->last_ok);
        json_object_set_text(o, "text", r->last_text);
        return o;
}

JsonObject *schedule_record_to_json(const ScheduleRecord *r)
{
        JsonObject *o = json_object_new();
        g_autoptr(JsonNode) options = json_from_string(r->options, NULL);
        g_autofree char *at =
                r->at_minute < 0 ? NULL : g_strdup_printf("%02d:%02d", r->at_minute / 60, r->at_minute % 60);

        json_object_set_string_member(o, "vm", r->vm);
        json_object_set_int_member(o, "every_s", r->every_us / G_USEC_PER_SEC);
        json_object_set_text(o, "at", at);
        json_object_set_member(o, "options", g_steal_pointer(&options));
        json_object_set_time(o, "since", r->since_us);
        json_object_set_time(o, "next", r->next_us);
        json_object_set_text(o, "operation", r->operation);
        if (r->last_us)
                json_object_set_object_member(o, "last", last_to_json(r));
        else
                json_object_set_null_member(o, "last");
        json_object_set_int_member(o, "failures", r->failures);
        return o;
}
