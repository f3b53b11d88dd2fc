/* tests/unit/test_catalogue_catalogue.c - migrations, transactions, and that a change and its event are one.
 */
#include "host-service/catalogue/catalogue.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <glib/gstdio.h>
#include <sqlite3.h>
#include <string.h>

#include "host-service/catalogue/event_log.h"
#include "host-service/catalogue/idempotency.h"
#include "host-service/catalogue/operations.h"
#include "host-service/catalogue/sql.h"
#include "host-service/catalogue/vms.h"
#include "tests/support/host_world.h"

TestSuite(catalogue, .timeout = 60);

static void execute(const char *path, const char *sql)
{
        char *why = NULL;
        sqlite3 *db;

        cr_assert(eq(int, sqlite3_open(path, &db), SQLITE_OK));
        cr_assert(eq(int, sqlite3_exec(db, sql, NULL, NULL, &why), SQLITE_OK), "%s", why);
        sqlite3_close(db);
}

/* What another process would see: only what is committed. */
static gint64 count_outside(const char *path, const char *sql)
{
        gint64 n = -1;
        sqlite3_stmt *st;
        sqlite3 *db;

        cr_assert(eq(int, sqlite3_open(path, &db), SQLITE_OK));
        cr_assert(eq(int, sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK));
        if (sqlite3_step(st) == SQLITE_ROW)
                n = sqlite3_column_int64(st, 0);
        sqlite3_finalize(st);
        sqlite3_close(db);
        return n;
}

/* The simulation's seed 1096: after a sync that failed, what a killed daemon's log seems to hold may be in
 * the page cache only. So nothing is built upon it: it is moved to the database, which is synced. */
Test(catalogue, the_log_that_a_killed_daemon_left_is_moved_to_the_database_first)
{
        g_autoptr(HostWorld) w = host_world_new();
        Catalogue *killed = host_world_catalogue(w), *c;
        g_autofree char *state = tempdir_path(w->dir, "state");
        g_autofree char *log = g_build_filename(state, "catalogue.db-wal", NULL);
        g_autoptr(VmRecord) r = NULL;
        GStatBuf st;

        host_world_add_vm(killed, "web-1");
        cr_assert(eq(int, g_stat(log, &st), 0));
        cr_assert(gt(i64, st.st_size, 0));
        c = host_world_catalogue(w);
        cr_assert(eq(int, g_stat(log, &st), 0));
        cr_expect(eq(i64, st.st_size, 0));
        r = catalogue_vm_get(c, "web-1", NULL);
        cr_expect(ne(ptr, r, NULL));
        catalogue_close(c);
        catalogue_close(killed);
}

Test(catalogue, a_new_one_gets_the_newest_schema_and_survives_a_reopening)
{
        g_autoptr(HostWorld) w = host_world_new();
        Catalogue *c = host_world_catalogue(w);

        cr_expect(eq(int, catalogue_schema_version(c), 16));
        host_world_add_vm(c, "web-1");
        catalogue_close(c);
        c = host_world_catalogue(w);
        g_autoptr(VmRecord) r = catalogue_vm_get(c, "web-1", NULL);
        cr_assert(ne(ptr, r, NULL));
        cr_expect(eq(str, r->agent, "/run/web-1.agent"));
        cr_expect(eq(i64, r->created_us, w->wall_us));
        catalogue_close(c);
}

Test(catalogue, it_is_a_write_ahead_log)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        cr_expect(eq(
                i64,
                count_outside(w->env.catalogue_path, "SELECT journal_mode = 'wal' FROM pragma_journal_mode"),
                1));
}

Test(catalogue, one_of_a_newer_program_is_refused_and_left_alone)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(GError) error = NULL;

        catalogue_close(host_world_catalogue(w));
        execute(w->env.catalogue_path, "PRAGMA user_version = 99");
        cr_expect(eq(ptr, catalogue_open(&w->env, &error), NULL));
        cr_assert(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED));
        cr_expect(ne(ptr, strstr(error->message, "newer moultd"), NULL), "%s", error->message);
        cr_expect(eq(i64, count_outside(w->env.catalogue_path, "PRAGMA user_version"), 99));
}

Test(catalogue, one_of_an_older_program_is_brought_up_with_what_is_in_it)
{
        g_autoptr(HostWorld) w = host_world_new();

        execute(w->env.catalogue_path, catalogue_migrations[0]);
        execute(w->env.catalogue_path,
                "PRAGMA user_version = 1; INSERT INTO events (time, type, data) VALUES (1, 'old', '{}');"
                "INSERT INTO operations (id, kind, state, request, created, updated)"
                " VALUES ('01ARYZ6S410000000000000000', 'push', 'failed', '{}', 1, 1)");
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        cr_expect(eq(int, catalogue_schema_version(c), catalogue_migration_count));
        cr_expect(
                eq(i64,
                   count_outside(w->env.catalogue_path, "SELECT value FROM meta WHERE key = 'events_bytes'"),
                   2));
        g_autoptr(OperationRecord) op = catalogue_operation_get(c, "01ARYZ6S410000000000000000", NULL);
        cr_assert(ne(ptr, op, NULL));
        cr_expect(eq(ptr, op->guest, NULL), "an operator asked for it");
}

Test(catalogue, a_migration_that_fails_half_way_is_undone)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(GError) error = NULL;

        /* The last table of the script is in the way. */
        execute(w->env.catalogue_path, "CREATE TABLE idempotency (x)");
        cr_expect(eq(ptr, catalogue_open(&w->env, &error), NULL));
        cr_assert(ne(ptr, error, NULL));
        cr_expect(eq(i64, count_outside(w->env.catalogue_path, "PRAGMA user_version"), 0));
        cr_expect(eq(
                i64,
                count_outside(w->env.catalogue_path, "SELECT count(*) FROM sqlite_master WHERE name = 'vms'"),
                0));
}

Test(catalogue, a_file_that_is_no_database_is_an_error)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(GError) error = NULL;

        cr_assert(g_file_set_contents(w->env.catalogue_path,
                                      "hello, this is not a database at all, but long enough", -1, NULL));
        cr_expect(eq(ptr, catalogue_open(&w->env, &error), NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CORRUPT));
}

Test(catalogue, a_change_and_its_event_are_seen_together_or_not_at_all)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        const char *vms = "SELECT count(*) FROM vms", *events = "SELECT count(*) FROM events";

        cr_assert(catalogue_begin(c, NULL));
        host_world_add_vm(c, "web-1");
        cr_expect(eq(i64, count_outside(w->env.catalogue_path, vms), 0));
        cr_expect(eq(i64, count_outside(w->env.catalogue_path, events), 0));
        cr_assert(catalogue_commit(c, NULL));
        cr_expect(eq(i64, count_outside(w->env.catalogue_path, vms), 1));
        cr_expect(eq(i64, count_outside(w->env.catalogue_path, events), 1));
        cr_assert(catalogue_begin(c, NULL));
        host_world_add_vm(c, "web-2");
        catalogue_rollback(c);
        cr_expect(eq(i64, count_outside(w->env.catalogue_path, vms), 1));
        cr_expect(eq(i64, catalogue_event_last(c), 1));
}

Test(catalogue, a_change_whose_event_cannot_be_written_does_not_happen)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        VmRecord r = {.name = "web-1", .agent = "/run/a"};

        execute(w->env.catalogue_path,
                "CREATE TRIGGER no_events BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END");
        cr_expect(not(catalogue_vm_add(c, &r, NULL)));
        cr_expect(eq(i64, count_outside(w->env.catalogue_path, "SELECT count(*) FROM vms"), 0));
        execute(w->env.catalogue_path, "DROP TRIGGER no_events");
        cr_expect(catalogue_vm_add(c, &r, NULL));
}

Test(catalogue, a_failure_inside_undoes_the_whole_even_if_nobody_looks)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        VmRecord again = {.name = "web-1", .agent = "/run/other"};

        cr_assert(catalogue_begin(c, NULL));
        host_world_add_vm(c, "web-1");
        cr_expect(not(catalogue_vm_add(c, &again, NULL)));
        cr_expect(not(catalogue_commit(c, NULL)));
        cr_expect(eq(i64, count_outside(w->env.catalogue_path, "SELECT count(*) FROM vms"), 0));
        /* And it goes on working. */
        host_world_add_vm(c, "web-1");
        cr_expect(eq(i64, count_outside(w->env.catalogue_path, "SELECT count(*) FROM vms"), 1));
}

static void remember(gint64 seq, gpointer user)
{
        g_array_append_val((GArray *)user, seq);
}

Test(catalogue, listeners_hear_of_commits_once_and_of_rollbacks_never)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(GArray) heard = g_array_new(FALSE, FALSE, sizeof(gint64));

        catalogue_listen(c, remember, heard);
        cr_assert(catalogue_begin(c, NULL));
        host_world_add_vm(c, "web-1");
        host_world_add_vm(c, "web-2");
        cr_expect(eq(u32, heard->len, 0));
        cr_assert(catalogue_commit(c, NULL));
        cr_assert(catalogue_begin(c, NULL));
        host_world_add_vm(c, "web-3");
        catalogue_rollback(c);
        cr_assert(eq(u32, heard->len, 1));
        cr_expect(eq(i64, g_array_index(heard, gint64, 0), 2));
        catalogue_unlisten(c, remember, heard);
        host_world_add_vm(c, "web-4");
        cr_expect(eq(u32, heard->len, 1));
}

Test(catalogue, numbers_of_events_are_never_used_twice)
{
        g_autoptr(HostWorld) w = host_world_new();
        Catalogue *c = host_world_catalogue(w);

        for (int i = 0; i < 10; i++) {
                g_autofree char *name = g_strdup_printf("vm-%d", i);
                host_world_add_vm(c, name);
        }
        cr_assert(catalogue_event_prune(c, 3, NULL));
        cr_expect(eq(i64, catalogue_event_forgotten(c), 7));
        g_autoptr(GPtrArray) kept = catalogue_event_list(c, 0, NULL, NULL, 100, NULL);
        cr_expect(eq(u32, kept->len, 3));
        cr_assert(catalogue_event_prune(c, 0, NULL));
        catalogue_close(c);
        c = host_world_catalogue(w);
        cr_expect(eq(i64, catalogue_event_forgotten(c), 10));
        cr_expect(eq(i64, catalogue_event_last(c), 10));
        host_world_add_vm(c, "next");
        cr_expect(eq(i64, catalogue_event_last(c), 11));
        catalogue_close(c);
}

Test(catalogue, keys_of_requests_are_kept_for_their_age)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(GError) error = NULL;
        IdempotencyRecord *r;

        cr_assert(catalogue_idempotency_put(c, "k", "hash", 202, "{}", NULL));
        cr_expect(not(catalogue_idempotency_put(c, "k", "other", 202, "{}", &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_BUSY));
        r = catalogue_idempotency_get(c, "k", NULL);
        cr_assert(ne(ptr, r, NULL));
        cr_expect(eq(str, r->request_hash, "hash"));
        cr_expect(eq(u32, r->status, 202));
        idempotency_record_free(r);
        w->wall_us += 1000;
        cr_assert(catalogue_idempotency_prune(c, 1000, NULL));
        r = catalogue_idempotency_get(c, "k", NULL);
        cr_assert(ne(ptr, r, NULL));
        idempotency_record_free(r);
        w->wall_us += 1;
        cr_assert(catalogue_idempotency_prune(c, 1000, NULL));
        cr_expect(eq(ptr, catalogue_idempotency_get(c, "k", NULL), NULL));
}
