/* host-service/catalogue/idempotency.c - answers kept under their Idempotency-Key. */
#include "host-service/catalogue/idempotency.h"

#include "host-service/catalogue/sql.h"

void idempotency_record_free(IdempotencyRecord *r)
{
        if (!r)
                return;
        g_free(r->key);
        g_free(r->request_hash);
        g_free(r->response);
        g_free(r);
}

gboolean catalogue_idempotency_put(Catalogue *c, const char *key, const char *request_hash, guint status,
                                   const char *response, GError **error)
{
        return sql_run(c, error,
                       "INSERT INTO idempotency (key, request_hash, status, response, created)"
                       " VALUES (?, ?, ?, ?, ?)",
                       "ssisi", key, request_hash, (gint64)status, response, host_wall_us(c->env));
}

IdempotencyRecord *catalogue_idempotency_get(Catalogue *c, const char *key, GError **error)
{
        IdempotencyRecord *r;
        sqlite3_stmt *st = sql_query(
                c, error, "SELECT request_hash, status, response, created FROM idempotency WHERE key = ?",
                "s", key);
        int step = st ? sql_step(c, st, error) : -1;

        if (step < 0)
                return NULL;
        if (step == 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "no request has used the key \"%s\"",
                            key);
                return NULL;
        }
        r = g_new0(IdempotencyRecord, 1);
        r->key = g_strdup(key);
        r->request_hash = column_text(st, 0);
        r->status = (guint)column_int(st, 1);
        r->response = column_text(st, 2);
        r->created_us = column_int(st, 3);
        sql_done(st);
        return r;
}

gboolean catalogue_idempotency_prune(Catalogue *c, gint64 age_us, GError **error)
{
        return sql_run(c, error, "DELETE FROM idempotency WHERE created < ?", "i",
                       host_wall_us(c->env) - age_us);
}
