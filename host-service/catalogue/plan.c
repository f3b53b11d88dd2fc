/* host-service/catalogue/plan.c - a guest's plan, entry by entry, kept with its push. */
#include "host-service/catalogue/pushes.h"
#include "host-service/catalogue/sql.h"
#include "proto/message.h"

#define PLAN_KEPT_MAX 200000u
/* Of a VM: a guest that is pushed to again and again only takes its own plans' room. */
#define PLANS_KEPT_MAX 8
/* Old items that go with each page that comes in: more than a page has, so that they become fewer. */
#define FORGET_ROWS 1024

void plan_item_free(PlanItem *i)
{
        if (!i)
                return;
        g_free(i->path);
        g_free(i->reason);
        g_free(i->mount);
        g_free(i->owner_package);
        g_free(i->merge);
        g_free(i);
}

static char *text_or_null(ProtobufCBinaryData b)
{
        return b.len ? message_string(b) : NULL;
}

static gboolean put_item(Catalogue *c, const char *operation, const char *vm, guint index,
                         const Moult__PlanItem *item, GError **error)
{
        g_autofree char *path = message_string(item->path), *reason = text_or_null(item->reason);
        g_autofree char *mount = text_or_null(item->mount), *owner = text_or_null(item->owner_package);
        g_autofree char *merge = text_or_null(item->merge);

        return sql_run(
                c, error,
                "INSERT OR REPLACE INTO plan_items (operation, vm, idx, path, action, type, reason, mount,"
                " owner_package, size, merged, merge, method)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                "ssisiisssiisi", operation, vm, (gint64)index, path, (gint64)item->action, (gint64)item->type,
                reason, mount, owner, (gint64)MIN(item->size, (guint64)G_MAXINT64),
                (gint64)(item->merged != FALSE), merge, (gint64)item->method);
}

static gboolean plan_forget(Catalogue *c, const char *operation, const char *vm, gint64 rows, GError **error)
{
        return sql_run(c, error,
                       "DELETE FROM plan_items WHERE operation = ?1 AND vm = ?2 AND idx IN"
                       " (SELECT idx FROM plan_items WHERE operation = ?1 AND vm = ?2 LIMIT ?3)",
                       "ssi", operation, vm, rows) &&
               sql_run(c, error,
                       "UPDATE pushes SET plan_total = 0 WHERE operation = ?1 AND vm = ?2 AND plan_total > 0"
                       " AND NOT EXISTS (SELECT 1 FROM plan_items i WHERE i.operation = ?1 AND i.vm = ?2)",
                       "ss", operation, vm);
}

gboolean catalogue_plan_forget(Catalogue *c, const char *operation, const char *vm, gint64 rows,
                               GError **error)
{
        return catalogue_begin(c, error) &&
               catalogue_end(c, plan_forget(c, operation, vm, rows, error), error);
}

/* Some of the VM's oldest plan, if there are too many. */
static gboolean forget_oldest(Catalogue *c, const char *vm, GError **error)
{
        g_autofree char *operation = NULL;
        sqlite3_stmt *st = sql_query(c, error,
                                     "SELECT operation FROM (SELECT operation, final FROM pushes WHERE vm = ?"
                                     " AND plan_total > 0 ORDER BY operation DESC LIMIT -1 OFFSET ?)"
                                     " WHERE final ORDER BY operation LIMIT 1",
                                     "si", vm, (gint64)PLANS_KEPT_MAX);
        int r = st ? sql_step(c, st, error) : -1;

        if (r <= 0)
                return r == 0;
        operation = column_text(st, 0);
        sql_done(st);
        return plan_forget(c, operation, vm, FORGET_ROWS, error);
}

/* How many items of this push are kept. */
static guint kept_max(Catalogue *c, const char *operation, const char *vm)
{
        gint64 entries = sql_number(c, 0,
                                    "SELECT r.entries FROM pushes p JOIN releases r ON r.digest = p.digest"
                                    " WHERE p.operation = ? AND p.vm = ?",
                                    "ss", operation, vm);

        return (guint)CLAMP(entries, 0, (gint64)PLAN_KEPT_MAX);
}

static gboolean put(Catalogue *c, const char *operation, const char *vm, const Moult__PlanPage *page,
                    GError **error)
{
        guint max = kept_max(c, operation, vm), kept;

        if (page->first == 0 &&
            !sql_run(c, error, "DELETE FROM plan_items WHERE operation = ? AND vm = ?", "ss", operation, vm))
                return FALSE;
        /* The guest's numbers: the sum is bounded before it is made. */
        kept = page->first < max ? MIN((guint)page->n_items, max - page->first) : 0;
        if (!sql_run(c, error, "UPDATE pushes SET plan_total = ? WHERE operation = ? AND vm = ?", "iss",
                     MAX((gint64)page->total, kept ? (gint64)page->first + kept : 0), operation, vm))
                return FALSE;
        if (sql_changes(c) == 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "operation %s has no push to VM \"%s\"", operation, vm);
                return FALSE;
        }
        for (guint i = 0; i < kept; i++)
                if (!put_item(c, operation, vm, page->first + i, page->items[i], error))
                        return FALSE;
        return forget_oldest(c, vm, error);
}

gboolean catalogue_plan_put(Catalogue *c, const char *operation, const char *vm, const Moult__PlanPage *page,
                            GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, put(c, operation, vm, page, error), error);
}

GPtrArray *catalogue_plan_list(Catalogue *c, const char *operation, const char *vm, guint first, guint count,
                               guint *ret_total, GError **error)
{
        g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)plan_item_free);
        gint64 total = sql_number(c, -1, "SELECT plan_total FROM pushes WHERE operation = ? AND vm = ?", "ss",
                                  operation, vm);
        sqlite3_stmt *st;
        int r;

        if (total < 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "operation %s has no push to VM \"%s\"", operation, vm);
                return NULL;
        }
        st = sql_query(c, error,
                       "SELECT idx, path, action, type, reason, mount, owner_package, size, merged, merge,"
                       " method FROM plan_items"
                       " WHERE operation = ? AND vm = ? AND idx >= ? ORDER BY idx LIMIT ?",
                       "ssii", operation, vm, (gint64)first, (gint64)count);
        if (!st)
                return NULL;
        while ((r = sql_step(c, st, error)) == 1) {
                PlanItem *i = g_new0(PlanItem, 1);

                i->index = (guint)column_int(st, 0);
                i->path = column_text(st, 1);
                i->action = (Moult__PlanAction)column_int(st, 2);
                i->type = (Moult__EntryType)column_int(st, 3);
                i->reason = column_text(st, 4);
                i->mount = column_text(st, 5);
                i->owner_package = column_text(st, 6);
                i->size = (guint64)column_int(st, 7);
                i->merged = column_int(st, 8) != 0;
                i->merge = column_text(st, 9);
                i->method = (Moult__MergeMethod)column_int(st, 10);
                g_ptr_array_add(list, i);
        }
        if (r < 0)
                return NULL;
        *ret_total = (guint)total;
        return g_steal_pointer(&list);
}
