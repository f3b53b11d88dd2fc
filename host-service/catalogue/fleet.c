/* host-service/catalogue/fleet.c - each VM with its pushes. */
#include "host-service/catalogue/fleet.h"

#include "host-service/catalogue/sql.h"

void fleet_row_free(FleetRow *r)
{
        if (!r)
                return;
        vm_record_free(r->vm);
        push_record_free(r->last);
        g_free(r);
}

static gboolean find_last(Catalogue *c, FleetRow *row, GError **error)
{
        g_autofree char *operation = NULL;
        sqlite3_stmt *st =
                sql_query(c, error,
                          "SELECT operation FROM pushes WHERE vm = ? AND final <> 0 AND state NOT IN"
                          " ('skipped', 'cancelled') AND json_extract(options, '$.dry_run') = 0"
                          " ORDER BY updated DESC LIMIT 1",
                          "s", row->vm->name);
        int r = st ? sql_step(c, st, error) : -1;

        if (r <= 0)
                return r == 0;
        operation = column_text(st, 0);
        sql_done(st);
        row->last = catalogue_push_get(c, operation, row->vm->name, error);
        return row->last != NULL;
}

GPtrArray *catalogue_fleet(Catalogue *c, const char *labels, GError **error)
{
        g_autoptr(GPtrArray) vms = catalogue_vm_select(c, labels, error);
        g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)fleet_row_free);

        for (guint i = 0; vms && i < vms->len; i++) {
                FleetRow *row = g_new0(FleetRow, 1);

                row->vm = vms->pdata[i];
                vms->pdata[i] = NULL;
                g_ptr_array_add(rows, row);
                row->pending = (guint)sql_number(
                        c, 0, "SELECT count(*) FROM pushes WHERE vm = ? AND final = 0", "s", row->vm->name);
                if (!find_last(c, row, error) ||
                    !catalogue_drift_get(c, row->vm->name, &row->drift, NULL, error))
                        return NULL;
                row->stale_counts = row->last && row->last->updated_us >= row->vm->booted_us;
        }
        return vms ? g_steal_pointer(&rows) : NULL;
}
