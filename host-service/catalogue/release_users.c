/* host-service/catalogue/release_users.c - which VMs still need which releases: one query over VMs and
 * pushes. */
#include "host-service/catalogue/release_users.h"

#include "host-service/catalogue/sql.h"

const char *release_use_name(ReleaseUse u)
{
        static const char *const names[] = {"push", "on", "back", "window"};

        return (guint)u < G_N_ELEMENTS(names) ? names[u] : "unknown";
}

void release_user_free(ReleaseUser *u)
{
        if (!u)
                return;
        g_free(u->vm);
        g_free(u);
}

/* A VM's last_release is "NAME VERSION", with more after a space when only some files were selected; names
 * and versions hold no space. */
static const char query[] =
        "SELECT r.id, 0, v.name FROM releases r JOIN pushes p ON p.digest = r.digest"
        " JOIN vms v ON v.name = p.vm WHERE r.name <> '' AND p.final = 0 "
        "UNION SELECT r.id, 1, v.name FROM releases r JOIN vms v"
        " ON instr(v.last_release || ' ', r.name || ' ' || r.version || ' ') = 1 WHERE r.name <> '' "
        "UNION SELECT r.id, 2, b.vm FROM releases r JOIN"
        " (SELECT p.vm, p.digest, row_number() OVER (PARTITION BY p.vm ORDER BY max(p.operation) DESC) AS n"
        "  FROM pushes p JOIN vms v ON v.name = p.vm WHERE p.state = 'done' AND p.generation > 0"
        "  AND p.release_name IS NOT NULL GROUP BY p.vm, p.digest) b"
        " ON b.digest = r.digest WHERE r.name <> '' AND b.n <= ?"
        " ORDER BY 1, 2, 3";

GPtrArray *catalogue_release_users(Catalogue *c, guint ways_back, GError **error)
{
        g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)release_user_free);
        sqlite3_stmt *st = sql_query(c, error, query, "i", (gint64)ways_back);
        int r = -1;

        while (st && (r = sql_step(c, st, error)) == 1) {
                ReleaseUser *u = g_new0(ReleaseUser, 1);

                u->release = column_int(st, 0);
                u->use = (ReleaseUse)column_int(st, 1);
                u->vm = column_text(st, 2);
                g_ptr_array_add(list, u);
        }
        return r < 0 ? NULL : g_steal_pointer(&list);
}
