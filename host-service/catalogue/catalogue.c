/* host-service/catalogue/catalogue.c - opening, migrating, transactions, and telling who listens. */
#include "host-service/catalogue/catalogue.h"

#include <string.h>

#include "common/events.h"
#include "common/fault.h"
#include "host-service/catalogue/releases.h"
#include "host-service/catalogue/rollout_counts.h"
#include "host-service/catalogue/sql.h"

#define BUSY_TIMEOUT_MS 5000
#define LISTENERS_MAX   8

struct listener {
        catalogue_listener func;
        gpointer user;
};

static int collate_version(void *unused, int la, const void *a, int lb, const void *b)
{
        g_autofree char *va = g_strndup(a, (gsize)la), *vb = g_strndup(b, (gsize)lb);

        return version_compare(va, vb);
}

static gboolean execute(Catalogue *c, const char *sql, const char *what, GError **error)
{
        if (sqlite3_exec(c->db, sql, NULL, NULL, NULL) != SQLITE_OK)
                return sql_error(c, error, what);
        return TRUE;
}

int catalogue_schema_version(const Catalogue *c)
{
        sqlite3_stmt *st;
        int version = -1;

        if (sqlite3_prepare_v2(c->db, "PRAGMA user_version", -1, &st, NULL) == SQLITE_OK &&
            sqlite3_step(st) == SQLITE_ROW)
                version = sqlite3_column_int(st, 0);
        sqlite3_finalize(st);
        return version;
}

static gboolean migrate_one(Catalogue *c, int from, GError **error)
{
        g_autofree char *pragma = g_strdup_printf("PRAGMA user_version = %d", from + 1);

        if (!execute(c, "BEGIN IMMEDIATE", "beginning a migration", error))
                return FALSE;
        if (execute(c, catalogue_migrations[from], "migrating the schema", error) &&
            execute(c, pragma, "migrating the schema", error) &&
            execute(c, "COMMIT", "ending a migration", error))
                return TRUE;
        sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
        return FALSE;
}

static gboolean migrate(Catalogue *c, GError **error)
{
        int version = catalogue_schema_version(c);

        if (version < 0)
                return sql_error(c, error, "reading the schema's version");
        if (version > catalogue_migration_count) {
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                        "catalogue %s has schema version %d, this moultd knows up to %d: it was written by a "
                        "newer moultd; nothing was changed; start that one",
                        c->env->catalogue_path, version, catalogue_migration_count);
                return FALSE;
        }
        for (; version < catalogue_migration_count; version++)
                if (!migrate_one(c, version, error))
                        return FALSE;
        return TRUE;
}

/* What is built upon from now on must be on the platter. A sync that failed in an earlier life may have left
 * pages of the log that are in the page cache only, and that no later sync writes; what came after them would
 * be lost with them. So the log is moved to the database, which is synced. A full disk is no reason not to
 * start: whoever makes room needs us. */
static gboolean settle(Catalogue *c, GError **error)
{
        int rc = sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);

        if (rc == SQLITE_OK)
                return TRUE;
        sql_error(c, error, "moving the log to the database");
        if ((rc & 0xff) != SQLITE_FULL && (rc & 0xff) != SQLITE_BUSY && (rc & 0xff) != SQLITE_LOCKED)
                return FALSE;
        event_log(EVENT_WARNING, "catalogue-not-settled", sqlite3_errmsg(c->db), NULL);
        g_clear_error(error);
        return TRUE;
}

Catalogue *catalogue_open(const struct host_env *env, GError **error)
{
        g_autoptr(Catalogue) c = g_new0(Catalogue, 1);

        c->env = env;
        c->statements = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL,
                                              (GDestroyNotify)(void (*)(void))sqlite3_finalize);
        c->listeners = g_array_new(FALSE, FALSE, sizeof(struct listener));
        if (sqlite3_open_v2(env->catalogue_path, &c->db,
                            SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                                    SQLITE_OPEN_NOFOLLOW,
                            env->sqlite_vfs) != SQLITE_OK) {
                if (!c->db)
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "catalogue %s: out of memory",
                                    env->catalogue_path);
                else
                        sql_error(c, error, "opening");
                return NULL;
        }
        sqlite3_extended_result_codes(c->db, 1);
        sqlite3_busy_timeout(c->db, BUSY_TIMEOUT_MS);
        sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        sqlite3_create_collation(c->db, "moult_version", SQLITE_UTF8, NULL, collate_version);
        if (!execute(c, "PRAGMA journal_mode = WAL", "choosing the write-ahead log", error) ||
            !execute(c,
                     fault_skip("catalogue.skip-sync") ? "PRAGMA synchronous = OFF"
                                                       : "PRAGMA synchronous = FULL",
                     "choosing durability", error) ||
            !execute(c, "PRAGMA foreign_keys = ON", "choosing foreign keys", error) ||
            !execute(c, "PRAGMA secure_delete = ON", "choosing secure deletion", error) ||
            !settle(c, error) || !migrate(c, error))
                return NULL;
        c->forgotten = sql_number(c, 0, "SELECT value FROM meta WHERE key = 'events_forgotten'", "");
        return g_steal_pointer(&c);
}

void catalogue_close(Catalogue *c)
{
        if (!c)
                return;
        g_clear_pointer(&c->statements, g_hash_table_unref);
        g_clear_pointer(&c->listeners, g_array_unref);
        g_clear_pointer(&c->rollout_counts, g_hash_table_unref);
        sqlite3_close(c->db);
        g_free(c);
}

gboolean catalogue_begin(Catalogue *c, GError **error)
{
        if (c->depth == 0) {
                if (!sql_run(c, error, "BEGIN IMMEDIATE", ""))
                        return FALSE;
                c->failed = FALSE;
                c->pending_seq = 0;
        }
        c->depth++;
        return TRUE;
}

static void undo(Catalogue *c)
{
        c->pending_seq = 0;
        rollout_counts_forget(c);
        /* SQLite may have rolled back by itself (disk full): then there is nothing left to end. */
        if (!sqlite3_get_autocommit(c->db))
                sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
}

gboolean catalogue_commit(Catalogue *c, GError **error)
{
        gint64 seq;

        g_assert(c->depth > 0);
        if (--c->depth > 0)
                return TRUE;
        if (c->failed || sqlite3_get_autocommit(c->db)) {
                undo(c);
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO,
                            "catalogue %s: the change was undone because a part of it failed",
                            c->env->catalogue_path);
                return FALSE;
        }
        if (!sql_run(c, error, "COMMIT", "")) {
                undo(c);
                return FALSE;
        }
        seq = c->pending_seq;
        c->pending_seq = 0;
        for (guint i = 0; seq > 0 && i < c->listeners->len; i++) {
                const struct listener *l = &g_array_index(c->listeners, struct listener, i);

                l->func(seq, l->user);
        }
        return TRUE;
}

void catalogue_rollback(Catalogue *c)
{
        g_assert(c->depth > 0);
        c->failed = TRUE;
        if (--c->depth == 0)
                undo(c);
}

gboolean catalogue_end(Catalogue *c, gboolean ok, GError **error)
{
        if (ok)
                return catalogue_commit(c, error);
        catalogue_rollback(c);
        return FALSE;
}

void catalogue_listen(Catalogue *c, catalogue_listener func, gpointer user)
{
        struct listener l = {func, user};

        g_assert(c->listeners->len < LISTENERS_MAX);
        g_array_append_val(c->listeners, l);
}

void catalogue_unlisten(Catalogue *c, catalogue_listener func, gpointer user)
{
        for (guint i = 0; i < c->listeners->len; i++) {
                const struct listener *l = &g_array_index(c->listeners, struct listener, i);

                if (l->func == func && l->user == user) {
                        g_array_remove_index(c->listeners, i);
                        return;
                }
        }
}
