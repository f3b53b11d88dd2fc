/* host-service/catalogue/check.c - PRAGMA integrity_check, with a way to stop it. */
#include "host-service/catalogue/check.h"

#include <sqlite3.h>

#include "common/error.h"

#define STEPS_BETWEEN_LOOKS 100000 /* of SQLite's machine: some milliseconds */

static int is_cancelled(void *cancellable)
{
        return g_cancellable_is_cancelled(cancellable);
}

static int collate_any(void *unused, int la, const void *a, int lb, const void *b)
{
        return la < lb ? -1 : la > lb;
}

static gboolean ask(sqlite3 *db, char **ret_problem, GCancellable *cancellable, GError **error)
{
        sqlite3_stmt *st = NULL;
        int r = sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &st, NULL);

        if (r == SQLITE_OK)
                r = sqlite3_step(st);
        if (r == SQLITE_ROW) {
                const char *text = (const char *)sqlite3_column_text(st, 0);

                *ret_problem = g_strcmp0(text, "ok") == 0 ? NULL : g_strdup(text ? text : "no answer");
        }
        sqlite3_finalize(st);
        if (r == SQLITE_ROW)
                return TRUE;
        if (g_cancellable_set_error_if_cancelled(cancellable, error))
                return FALSE;
        if (r == SQLITE_CORRUPT || r == SQLITE_NOTADB) {
                *ret_problem = g_strdup(sqlite3_errstr(r));
                return TRUE;
        }
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "checking the catalogue: %s", sqlite3_errmsg(db));
        return FALSE;
}

gboolean catalogue_check(const struct host_env *env, char **ret_problem, GCancellable *cancellable,
                         GError **error)
{
        sqlite3 *db = NULL;
        gboolean ok = FALSE;

        *ret_problem = NULL;
        if (sqlite3_open_v2(env->catalogue_path, &db, SQLITE_OPEN_READONLY, env->sqlite_vfs) != SQLITE_OK) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "opening %s to check it: %s",
                            env->catalogue_path, db ? sqlite3_errmsg(db) : "no memory");
        } else {
                sqlite3_busy_timeout(db, 5000);
                /* The catalogue's own order of versions; no index is kept in it. */
                sqlite3_create_collation(db, "moult_version", SQLITE_UTF8, NULL, collate_any);
                sqlite3_progress_handler(db, STEPS_BETWEEN_LOOKS, is_cancelled, cancellable);
                ok = ask(db, ret_problem, cancellable, error);
        }
        sqlite3_close(db);
        return ok;
}
