/* host-service/catalogue/tokens.c - API tokens. */
#include "host-service/catalogue/tokens.h"

#include "host-service/catalogue/sql.h"

#define COLUMNS "name, scope, created, expires, revoked"

void token_record_free(TokenRecord *r)
{
        if (!r)
                return;
        g_free(r->name);
        g_free(r->scope);
        g_free(r);
}

static TokenRecord *from_row(sqlite3_stmt *st)
{
        TokenRecord *r = g_new0(TokenRecord, 1);

        r->name = column_text(st, 0);
        r->scope = column_text(st, 1);
        r->created_us = column_int(st, 2);
        r->expires_us = column_int(st, 3);
        r->revoked_us = column_int(st, 4);
        return r;
}

static TokenRecord *one(Catalogue *c, sqlite3_stmt *st, const char *name, GError **error)
{
        int step = st ? sql_step(c, st, error) : -1;
        TokenRecord *r;

        if (step < 0)
                return NULL;
        if (step == 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "there is no API token%s%s",
                            name ? " " : " with this secret", name ? name : "");
                return NULL;
        }
        r = from_row(st);
        sql_done(st);
        return r;
}

gboolean catalogue_token_add(Catalogue *c, const TokenRecord *r, const char *secret, GError **error)
{
        g_autofree char *digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, secret, -1);
        g_autoptr(TokenRecord) old = catalogue_token_get(c, r->name, NULL);

        if (old) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "there %s an API token %s already: choose another name, so that the audit log "
                            "stays clear",
                            old->revoked_us ? "was" : "is", r->name);
                return FALSE;
        }
        if (sql_number(c, 0, "SELECT count(*) FROM tokens", "") >= TOKENS_MAX) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY, "there are %d API tokens already",
                            TOKENS_MAX);
                return FALSE;
        }
        return sql_run(c, error,
                       "INSERT INTO tokens (name, digest, scope, created, expires) VALUES (?, ?, ?, ?, ?)",
                       "sssii", r->name, digest, r->scope, host_wall_us(c->env), r->expires_us);
}

TokenRecord *catalogue_token_get(Catalogue *c, const char *name, GError **error)
{
        return one(c, sql_query(c, error, "SELECT " COLUMNS " FROM tokens WHERE name = ?", "s", name), name,
                   error);
}

TokenRecord *catalogue_token_by_secret(Catalogue *c, const char *secret, GError **error)
{
        g_autofree char *digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, secret, -1);

        return one(c, sql_query(c, error, "SELECT " COLUMNS " FROM tokens WHERE digest = ?", "s", digest),
                   NULL, error);
}

GPtrArray *catalogue_token_list(Catalogue *c, GError **error)
{
        g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)token_record_free);
        sqlite3_stmt *st = sql_query(c, error, "SELECT " COLUMNS " FROM tokens ORDER BY name", "");
        int r = st ? 1 : -1;

        while (st && (r = sql_step(c, st, error)) == 1)
                g_ptr_array_add(list, from_row(st));
        return r < 0 ? NULL : g_steal_pointer(&list);
}

gboolean catalogue_token_revoke(Catalogue *c, const char *name, GError **error)
{
        g_autoptr(TokenRecord) r = catalogue_token_get(c, name, error);

        if (!r)
                return FALSE;
        if (r->revoked_us) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                            "the API token %s was revoked before", name);
                return FALSE;
        }
        return sql_run(c, error, "UPDATE tokens SET revoked = ? WHERE name = ?", "is", host_wall_us(c->env),
                       name);
}
