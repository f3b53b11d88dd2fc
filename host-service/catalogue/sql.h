/* host-service/catalogue/sql.h - SQLite as the catalogue's own files use it: cached statements, bound values,
 * GErrors.
 *
 * Values are bound by a format, one letter each: s text (NULL: null), i gint64, b pointer and gsize (NULL
 * pointer: null). Private to host-service/catalogue/. */
#pragma once

#include <sqlite3.h>

#include "host-service/catalogue/catalogue.h"

struct Catalogue {
        const struct host_env *env;
        sqlite3 *db;
        GHashTable *statements; /* static SQL text -> sqlite3_stmt */
        int depth;              /* of nested transactions */
        gboolean failed;        /* something inside was rolled back: the outermost must not commit */
        gint64 pending_seq;     /* highest event of the transaction, 0: none */
        gint64 forgotten;       /* highest pruned event */
        guint64 last_ms;        /* of the last operation id */
        guint8 last_random[10];
        GArray *listeners;
        guint64 tally;              /* see catalogue_rollout_tally() */
        GHashTable *rollout_counts; /* see rollout_counts.h; NULL: none yet */
};

/* Runs a statement to its end; rows are ignored. @sql must be a string literal: it is the cache's key. */
gboolean sql_run(Catalogue *c, GError **error, const char *sql, const char *format, ...);
/* A statement with its values bound, to be stepped; NULL on error. Belongs to the cache: sql_done() when
 * finished. */
sqlite3_stmt *sql_query(Catalogue *c, GError **error, const char *sql, const char *format, ...);
/* 1: a row, 0: no more (the statement was reset), -1: error (reset too). */
int sql_step(Catalogue *c, sqlite3_stmt *st, GError **error);
void sql_done(sqlite3_stmt *st);
/* One number from a query without error of interest; @fallback if there is no row. */
gint64 sql_number(Catalogue *c, gint64 fallback, const char *sql, const char *format, ...);
int sql_changes(Catalogue *c);
gboolean sql_error(Catalogue *c, GError **error, const char *what); /* returns FALSE */

/* Columns. Text is a new string, NULL for null. */
char *column_text(sqlite3_stmt *st, int i);
gint64 column_int(sqlite3_stmt *st, int i);
/* TRUE if there was a blob of exactly @len bytes; else @ret is zeroed. */
gboolean column_blob(sqlite3_stmt *st, int i, guint8 *ret, gsize len);

/* catalogue/schema.c: the scripts that lead from version i to i + 1. */
extern const char *const catalogue_migrations[];
extern const int catalogue_migration_count;
