/* host-service/catalogue/sql.c - statements, values and errors of SQLite. */
#include "host-service/catalogue/sql.h"

#include <stdarg.h>
#include <string.h>

gboolean sql_error(Catalogue *c, GError **error, const char *what)
{
        int rc = sqlite3_extended_errcode(c->db);
        MoultError code = MOULT_ERROR_IO;

        switch (rc & 0xff) {
        case SQLITE_FULL:
                code = MOULT_ERROR_NO_SPACE;
                break;
        case SQLITE_CONSTRAINT:
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                code = MOULT_ERROR_BUSY;
                break;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                code = MOULT_ERROR_CORRUPT;
                break;
        default:
                break;
        }
        g_set_error(error, MOULT_ERROR, code, "catalogue %s: %s: %s", c->env->catalogue_path, what,
                    sqlite3_errmsg(c->db));
        return FALSE;
}

static sqlite3_stmt *prepare(Catalogue *c, const char *sql, GError **error)
{
        sqlite3_stmt *st = g_hash_table_lookup(c->statements, sql);

        if (st) {
                sqlite3_reset(st);
                sqlite3_clear_bindings(st);
                return st;
        }
        if (sqlite3_prepare_v3(c->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL) != SQLITE_OK) {
                sql_error(c, error, "preparing a statement");
                return NULL;
        }
        g_hash_table_insert(c->statements, (gpointer)sql, st);
        return st;
}

static sqlite3_stmt *bind(Catalogue *c, GError **error, const char *sql, const char *format, va_list ap)
{
        sqlite3_stmt *st = prepare(c, sql, error);

        if (!st)
                return NULL;
        g_assert((int)strlen(format) == sqlite3_bind_parameter_count(st));
        for (int i = 1; *format; format++, i++) {
                int rc = SQLITE_OK;

                if (*format == 's') {
                        rc = sqlite3_bind_text(st, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
                } else if (*format == 'i') {
                        rc = sqlite3_bind_int64(st, i, va_arg(ap, gint64));
                } else {
                        const void *data = va_arg(ap, const void *);
                        gsize len = va_arg(ap, gsize);

                        g_assert(*format == 'b');
                        rc = data ? sqlite3_bind_blob64(st, i, data, len, SQLITE_TRANSIENT)
                                  : sqlite3_bind_null(st, i);
                }
                if (rc != SQLITE_OK) {
                        sql_error(c, error, "binding a value");
                        return NULL;
                }
        }
        return st;
}

sqlite3_stmt *sql_query(Catalogue *c, GError **error, const char *sql, const char *format, ...)
{
        sqlite3_stmt *st;
        va_list ap;

        va_start(ap, format);
        st = bind(c, error, sql, format, ap);
        va_end(ap);
        return st;
}

int sql_step(Catalogue *c, sqlite3_stmt *st, GError **error)
{
        int rc = sqlite3_step(st);

        if (rc == SQLITE_ROW)
                return 1;
        if (rc != SQLITE_DONE)
                sql_error(c, error, "running a statement");
        sql_done(st);
        return rc == SQLITE_DONE ? 0 : -1;
}

void sql_done(sqlite3_stmt *st)
{
        if (st) {
                sqlite3_reset(st);
                sqlite3_clear_bindings(st);
        }
}

gboolean sql_run(Catalogue *c, GError **error, const char *sql, const char *format, ...)
{
        sqlite3_stmt *st;
        va_list ap;
        int r;

        va_start(ap, format);
        st = bind(c, error, sql, format, ap);
        va_end(ap);
        if (!st)
                return FALSE;
        do
                r = sql_step(c, st, error);
        while (r == 1);
        return r == 0;
}

gint64 sql_number(Catalogue *c, gint64 fallback, const char *sql, const char *format, ...)
{
        sqlite3_stmt *st;
        va_list ap;

        va_start(ap, format);
        st = bind(c, NULL, sql, format, ap);
        va_end(ap);
        if (st && sql_step(c, st, NULL) == 1) {
                fallback = column_int(st, 0);
                sql_done(st);
        }
        return fallback;
}

int sql_changes(Catalogue *c)
{
        return sqlite3_changes(c->db);
}

char *column_text(sqlite3_stmt *st, int i)
{
        return g_strdup((const char *)sqlite3_column_text(st, i));
}

gint64 column_int(sqlite3_stmt *st, int i)
{
        return sqlite3_column_int64(st, i);
}

gboolean column_blob(sqlite3_stmt *st, int i, guint8 *ret, gsize len)
{
        const void *data = sqlite3_column_blob(st, i);

        memset(ret, 0, len);
        if (!data || (gsize)sqlite3_column_bytes(st, i) != len)
                return FALSE;
        memcpy(ret, data, len);
        return TRUE;
}
