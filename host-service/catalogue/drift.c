/* host-service/catalogue/drift.c - the results of comparisons. */
#include "host-service/catalogue/drift.h"

#include "common/error.h"
#include "host-service/catalogue/json.h"
#include "host-service/catalogue/sql.h"

static const char *const states[DRIFT_STATE_MAX] = {
        [DRIFT_UNCHECKED] = "unchecked",
        [DRIFT_OUTDATED] = "outdated",
        [DRIFT_IN_STEP] = "in-step",
        [DRIFT_DRIFTS] = "drifts",
};

/* The numbers are those of DriftState. */
G_STATIC_ASSERT(DRIFT_UNCHECKED == 0 && DRIFT_OUTDATED == 1 && DRIFT_IN_STEP == 2 && DRIFT_DRIFTS == 3);
#define STATE                                                                                                \
        "CASE WHEN d.vm IS NULL THEN 0"                                                                      \
        " WHEN d.as_of <> v.changes OR d.release IS NOT v.last_release THEN 1"                               \
        " WHEN d.files = 0 THEN 2 ELSE 3 END"
#define TABLES "vms v LEFT JOIN vm_drift d ON d.vm = v.name"

const char *drift_state_name(DriftState s)
{
        g_assert(s >= 0 && s < DRIFT_STATE_MAX);
        return states[s];
}

gboolean catalogue_drift_get(Catalogue *c, const char *vm, struct drift_record *ret, gint64 *ret_changes,
                             GError **error)
{
        sqlite3_stmt *st = sql_query(c, error,
                                     "SELECT " STATE ", coalesce(d.checked, 0), coalesce(d.files, 0),"
                                     " v.changes FROM " TABLES " WHERE v.name = ?",
                                     "s", vm);
        int r = st ? sql_step(c, st, error) : -1;

        if (r == 0)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "there is no VM named \"%s\"", vm);
        if (r <= 0)
                return FALSE;
        *ret = (struct drift_record){
                .state = (DriftState)column_int(st, 0),
                .checked_us = column_int(st, 1),
                .files = column_int(st, 2),
        };
        if (ret_changes)
                *ret_changes = column_int(st, 3);
        sql_done(st);
        return TRUE;
}

static gboolean tell(Catalogue *c, const char *vm, const struct drift_record *before, GError **error)
{
        struct drift_record now;
        g_autofree char *data = NULL;

        if (!catalogue_drift_get(c, vm, &now, NULL, error))
                return FALSE;
        if (now.state == before->state && now.files == before->files)
                return TRUE;
        data = json_object_text(drift_record_to_json(&now));
        return catalogue_event_add(c, "vm.drift", NULL, vm, data, error);
}

static gboolean set(Catalogue *c, const char *vm, gint64 as_of, gint64 files, GError **error)
{
        struct drift_record before;

        return catalogue_drift_get(c, vm, &before, NULL, error) &&
               sql_run(c, error,
                       "INSERT INTO vm_drift (vm, checked, as_of, release, files)"
                       " SELECT name, ?, ?, last_release, ? FROM vms WHERE name = ?"
                       " ON CONFLICT DO UPDATE SET checked = excluded.checked, as_of = excluded.as_of,"
                       " release = excluded.release, files = excluded.files WHERE excluded.as_of >= as_of",
                       "iiis", host_wall_us(c->env), as_of, files, vm) &&
               tell(c, vm, &before, error);
}

gboolean catalogue_drift_set(Catalogue *c, const char *vm, gint64 as_of, gint64 files, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, set(c, vm, as_of, files, error), error);
}

gboolean catalogue_drift_count(Catalogue *c, gint64 counts[static DRIFT_STATE_MAX], GError **error)
{
        sqlite3_stmt *st =
                sql_query(c, error, "SELECT " STATE " AS state, count(*) FROM " TABLES " GROUP BY state", "");
        int r = st ? 1 : -1;

        for (guint i = 0; i < DRIFT_STATE_MAX; i++)
                counts[i] = 0;
        while (st && (r = sql_step(c, st, error)) == 1)
                counts[column_int(st, 0)] = column_int(st, 1);
        return r == 0;
}
