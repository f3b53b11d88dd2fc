/* host-service/catalogue/removals.c - restore points go, and rows say what is left to do of that. */
#include "host-service/catalogue/removals.h"

#include "host-service/catalogue/json.h"
#include "host-service/catalogue/snapshots.h"
#include "host-service/catalogue/sql.h"

void removal_record_free(RemovalRecord *r)
{
        if (!r)
                return;
        g_free(r->snapshot);
        g_free(r->vm);
        g_free(r);
}

static gboolean tell(Catalogue *c, const SnapshotRecord *r, GError **error)
{
        g_autofree char *data = json_object_text(snapshot_record_to_json(r));

        return catalogue_event_add(c, "snapshot.removed", r->id, r->vm, data, error);
}

static gboolean remove_row(Catalogue *c, const char *id, GError **error)
{
        g_autoptr(SnapshotRecord) r = catalogue_snapshot_get(c, id, error);

        if (!r)
                return FALSE;
        if (r->state != SNAPSHOT_TAKEN) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                            "snapshot %s is not taken (yet): there is nothing to remove", r->name);
                return FALSE;
        }
        return sql_run(c, error, "DELETE FROM snapshots WHERE id = ?", "s", id) &&
               sql_run(c, error, "INSERT INTO removals (snapshot, vm) VALUES (?, ?)", "ss", id, r->vm) &&
               tell(c, r, error);
}

gboolean catalogue_snapshot_remove(Catalogue *c, const char *id, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, remove_row(c, id, error), error);
}

GPtrArray *catalogue_removal_list(Catalogue *c, GError **error)
{
        g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify)removal_record_free);
        sqlite3_stmt *st = sql_query(c, error, "SELECT snapshot, vm FROM removals ORDER BY snapshot", "");
        int step = -1;

        while (st && (step = sql_step(c, st, error)) > 0) {
                RemovalRecord *r = g_new0(RemovalRecord, 1);

                r->snapshot = column_text(st, 0);
                r->vm = column_text(st, 1);
                g_ptr_array_add(all, r);
        }
        return step == 0 ? g_steal_pointer(&all) : NULL;
}

gboolean catalogue_removal_done(Catalogue *c, const char *snapshot, GError **error)
{
        return sql_run(c, error, "DELETE FROM removals WHERE snapshot = ?", "s", snapshot);
}

char *catalogue_snapshot_job(Catalogue *c, const char *id)
{
        sqlite3_stmt *st = sql_query(c, NULL,
                                     "SELECT kind || ' ' || id FROM operations WHERE state IN ('queued',"
                                     " 'running') AND json_extract(request, '$.snapshot') = ?1"
                                     " AND kind <> 'snapshot-remove'"
                                     " UNION ALL SELECT 'push ' || operation FROM pushes WHERE final = 0"
                                     " AND json_extract(options, '$.taken.id') = ?1",
                                     "s", id);
        char *job = NULL;

        if (st && sql_step(c, st, NULL) > 0) {
                job = column_text(st, 0);
                sql_done(st);
        }
        return job;
}
