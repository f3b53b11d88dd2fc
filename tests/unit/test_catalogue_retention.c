/* tests/unit/test_catalogue_retention.c - what is over is forgotten in bounded steps, and nothing else. */
#include "host-service/catalogue/retention.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <sqlite3.h>
#include <string.h>

#include "host-service/catalogue/event_log.h"
#include "host-service/jobs/push_operation.h"
#include "proto/message.h"
#include "tests/support/host_world.h"

TestSuite(catalogue_retention, .timeout = 60);

#define MANY G_MAXINT64

static const struct retention everything = {
        MANY, MANY, MANY, G_TIME_SPAN_DAY * 10000, MANY, G_TIME_SPAN_DAY * 10000, G_TIME_SPAN_DAY * 10000};

struct fixture {
        HostWorld *w;
        Catalogue *c;
        Jobs *j;
        ReleaseRecord *release;
};

static void begin(struct fixture *f)
{
        const char *const paths[] = {NULL};

        f->w = host_world_new();
        f->c = host_world_catalogue(f->w);
        f->j = jobs_new(&f->w->env, f->c);
        host_world_add_vm(f->c, "a");
        host_world_add_vm(f->c, "b");
        host_world_add_release(f->c, "app", "1", 7, 1, paths);
        f->release = catalogue_release_get(f->c, "app", "1", NULL);
}

static void end(struct fixture *f)
{
        release_record_free(f->release);
        jobs_free(f->j);
        catalogue_close(f->c);
        host_world_free(f->w);
}

/* A push to @vm, asked for by it or by an operator. */
static char *add(struct fixture *f, const char *vm, gboolean by_guest)
{
        const struct push_options o = {0};
        const char *const vms[] = {vm, NULL};
        char *id;

        f->w->wall_us += 1000; /* ids and ends in their order */
        id = by_guest ? push_operation_add_for_guest(&f->w->env, f->c, f->j, f->release, vm, &o, NULL)
                      : push_operation_add(&f->w->env, f->c, f->j, f->release, vms, &o, NULL);
        cr_assert(ne(ptr, id, NULL));
        return id;
}

static void finish(struct fixture *f, const char *id, const char *vm, const char *plug)
{
        g_autoptr(PushRecord) r = catalogue_push_get(f->c, id, vm, NULL);

        r->state = PUSH_STATE_FAILED;
        r->plug = g_strdup(plug);
        cr_assert(catalogue_push_update(f->c, r, NULL));
        cr_assert(catalogue_operation_set_state(f->c, id, OPERATION_FAILED, NULL, NULL, NULL));
}

static char *add_ended(struct fixture *f, const char *vm, gboolean by_guest)
{
        char *id = add(f, vm, by_guest);

        finish(f, id, vm, NULL);
        return id;
}

static void put_plan(struct fixture *f, const char *id, const char *vm, guint items)
{
        Moult__PlanItem item = MOULT__PLAN_ITEM__INIT, *pointers[100];
        Moult__PlanPage page = MOULT__PLAN_PAGE__INIT;

        item.path = message_bytes("etc/a");
        for (guint i = 0; i < G_N_ELEMENTS(pointers); i++)
                pointers[i] = &item;
        page.items = pointers;
        page.total = items;
        for (; page.first < items; page.first += (guint32)page.n_items) {
                page.n_items = MIN(items - page.first, G_N_ELEMENTS(pointers));
                cr_assert(catalogue_plan_put(f->c, id, vm, &page, NULL));
        }
}

static gint64 count(struct fixture *f, const char *sql)
{
        sqlite3 *db;
        sqlite3_stmt *st;
        gint64 n = -1;

        cr_assert(eq(int, sqlite3_open(f->w->env.catalogue_path, &db), SQLITE_OK));
        cr_assert(eq(int, sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK));
        if (sqlite3_step(st) == SQLITE_ROW)
                n = sqlite3_column_int64(st, 0);
        sqlite3_finalize(st);
        sqlite3_close(db);
        return n;
}

static gboolean is_there(struct fixture *f, const char *id)
{
        g_autoptr(OperationRecord) r = catalogue_operation_get(f->c, id, NULL);

        return r != NULL;
}

/* How many steps it took. */
static guint forget(struct fixture *f, const struct retention *keep, gint64 rows)
{
        gboolean more = TRUE;
        guint steps = 0;

        for (; more; steps++)
                cr_assert(catalogue_forget(f->c, keep, rows, &more, NULL));
        return steps;
}

Test(catalogue_retention, within_the_bounds_nothing_is_forgotten)
{
        struct fixture f;

        begin(&f);
        g_autofree char *op = add_ended(&f, "a", FALSE);
        put_plan(&f, op, "a", 10);
        gint64 rows = count(&f, "SELECT (SELECT count(*) FROM operations) + (SELECT count(*) FROM events)"
                                " + (SELECT count(*) FROM plan_items)");
        cr_expect(eq(u32, forget(&f, &everything, 100), 1));
        cr_expect(eq(i64, rows,
                     count(&f, "SELECT (SELECT count(*) FROM operations) + (SELECT count(*) FROM events)"
                               " + (SELECT count(*) FROM plan_items)")));
        end(&f);
}

Test(catalogue_retention, ended_operations_go_by_age_with_their_pushes_and_unfinished_ones_never)
{
        struct fixture f;
        struct retention keep = everything;

        begin(&f);
        keep.operation_age_us = G_TIME_SPAN_DAY;
        g_autofree char *old = add_ended(&f, "a", FALSE), *open = add(&f, "a", FALSE);
        f.w->wall_us += 2 * G_TIME_SPAN_DAY;
        g_autofree char *young = add_ended(&f, "b", FALSE);
        forget(&f, &keep, 100);
        cr_expect(not(is_there(&f, old)));
        cr_expect(is_there(&f, open) && is_there(&f, young));
        cr_expect(eq(i64, count(&f, "SELECT count(*) FROM pushes"), 2));
        end(&f);
}

Test(catalogue_retention, the_newest_ended_operations_are_kept)
{
        struct fixture f;
        struct retention keep = everything;
        char *ids[10];

        begin(&f);
        keep.operations = 3;
        for (guint i = 0; i < G_N_ELEMENTS(ids); i++)
                ids[i] = add_ended(&f, "a", FALSE);
        /* An operation and its push: the step's two rows. */
        cr_expect(gt(u32, forget(&f, &keep, 2), 3), "one step must not do it all");
        for (guint i = 0; i < G_N_ELEMENTS(ids); i++) {
                cr_expect(eq(int, is_there(&f, ids[i]), i >= 7), "operation %u", i);
                g_free(ids[i]);
        }
        end(&f);
}

Test(catalogue_retention, a_guest_that_asks_and_asks_pushes_only_its_own_history_out)
{
        struct fixture f;
        struct retention keep = everything;

        begin(&f);
        keep.operations_per_guest = 2;
        g_autofree char *operators = add_ended(&f, "a", FALSE), *others = add_ended(&f, "b", TRUE);
        for (guint i = 0; i < 9; i++)
                g_free(add_ended(&f, "a", TRUE));
        forget(&f, &keep, 100);
        cr_expect(is_there(&f, operators) && is_there(&f, others));
        cr_expect(eq(i64, count(&f, "SELECT count(*) FROM operations WHERE guest = 'a'"), 2));
        end(&f);
}

Test(catalogue_retention, what_guests_asked_for_does_not_count_against_operators)
{
        struct fixture f;

        begin(&f);
        for (guint i = 0; i < 3; i++)
                g_free(add(&f, "a", TRUE));
        g_autofree char *op = add(&f, "a", FALSE);
        cr_expect(eq(i64, catalogue_operation_count_open(f.c, NULL), 1));
        cr_expect(eq(i64, catalogue_operation_count_open(f.c, "a"), 3));
        cr_expect(eq(i64, catalogue_operation_count_open(f.c, "b"), 0));
        finish(&f, op, "a", NULL);
        cr_expect(eq(i64, catalogue_operation_count_open(f.c, NULL), 0));
        end(&f);
}

Test(catalogue_retention, the_row_that_knows_of_a_plugged_window_stays)
{
        struct fixture f;
        struct retention keep = everything;

        begin(&f);
        keep.operations = 0;
        g_autofree char *before = add(&f, "a", FALSE), *stuck = add(&f, "a", FALSE);
        finish(&f, before, "a", "moult-window-0");
        finish(&f, stuck, "a", "moult-window-0");
        forget(&f, &keep, 100);
        cr_expect(is_there(&f, stuck));
        cr_expect(not(is_there(&f, before)), "only the VM's newest push counts");
        g_free(add_ended(&f, "a", FALSE));
        forget(&f, &keep, 100);
        cr_expect(not(is_there(&f, stuck)));
        end(&f);
}

Test(catalogue_retention, plans_go_by_age_in_steps_and_those_of_running_pushes_stay)
{
        struct fixture f;
        struct retention keep = everything;
        guint total = 99;

        begin(&f);
        keep.plan_age_us = G_TIME_SPAN_DAY;
        g_autofree char *over = add(&f, "a", FALSE), *open = add(&f, "a", FALSE);
        put_plan(&f, over, "a", 250);
        put_plan(&f, open, "a", 3);
        finish(&f, over, "a", NULL);
        forget(&f, &keep, 100);
        cr_expect(eq(i64, count(&f, "SELECT count(*) FROM plan_items"), 253));
        f.w->wall_us += 2 * G_TIME_SPAN_DAY;
        cr_expect(ge(u32, forget(&f, &keep, 100), 3));
        cr_expect(eq(i64, count(&f, "SELECT count(*) FROM plan_items"), 3));
        g_autoptr(GPtrArray) items = catalogue_plan_list(f.c, over, "a", 0, 10, &total, NULL);
        cr_expect(eq(u32, total, 0));
        cr_expect(is_there(&f, over));
        end(&f);
}

Test(catalogue_retention, an_operation_with_a_long_plan_goes_in_steps)
{
        struct fixture f;
        struct retention keep = everything;

        begin(&f);
        keep.operations = 0;
        g_autofree char *op = add(&f, "a", FALSE);
        put_plan(&f, op, "a", 500);
        finish(&f, op, "a", NULL);
        cr_expect(ge(u32, forget(&f, &keep, 100), 5));
        cr_expect(not(is_there(&f, op)));
        cr_expect(eq(i64, count(&f, "SELECT count(*) FROM plan_items"), 0));
        end(&f);
}

Test(catalogue_retention, a_vm_has_no_more_than_its_newest_plans)
{
        struct fixture f;
        g_autofree char *first = NULL, *last = NULL;
        guint total = 0;

        begin(&f);
        g_autofree char *other = add_ended(&f, "b", TRUE);
        put_plan(&f, other, "b", 5);
        for (guint i = 0; i < 12; i++) {
                g_free(last);
                last = add(&f, "a", TRUE);
                put_plan(&f, last, "a", 40);
                finish(&f, last, "a", NULL);
                if (i == 0)
                        first = g_strdup(last);
        }
        cr_expect(eq(i64, count(&f, "SELECT count(*) FROM plan_items WHERE vm = 'a'"), 8 * 40));
        cr_expect(eq(i64, count(&f, "SELECT count(*) FROM plan_items WHERE vm = 'b'"), 5));
        g_autoptr(GPtrArray) gone = catalogue_plan_list(f.c, first, "a", 0, 10, &total, NULL);
        cr_expect(eq(u32, total, 0));
        g_autoptr(GPtrArray) kept = catalogue_plan_list(f.c, last, "a", 0, 10, &total, NULL);
        cr_expect(eq(u32, total, 40));
        end(&f);
}

Test(catalogue_retention, a_plan_has_no_more_items_than_the_release_has_entries)
{
        struct fixture f;
        ReleaseRecord small = {
                .name = (char *)"small", .version = (char *)"1", .file = (char *)"s.moult", .entries = 3};

        begin(&f);
        cr_assert(catalogue_release_add(f.c, &small, NULL, NULL));
        release_record_free(f.release);
        f.release = catalogue_release_get(f.c, "small", "1", NULL);
        g_autofree char *op = add(&f, "a", FALSE);
        put_plan(&f, op, "a", 100);
        cr_expect(eq(i64, count(&f, "SELECT count(*) FROM plan_items"), 3));
        end(&f);
}

Test(catalogue_retention, events_go_by_number_and_by_bytes_in_steps)
{
        struct fixture f;
        struct retention keep = everything;
        g_autofree char *large = g_strnfill(1000, 'x');

        begin(&f);
        for (guint i = 0; i < 50; i++)
                cr_assert(catalogue_event_add(f.c, "test.large", NULL, NULL, large, NULL));
        cr_expect(eq(i64, count(&f, "SELECT value FROM meta WHERE key = 'events_bytes'"),
                     count(&f, "SELECT sum(length(data)) FROM events")));
        keep.event_bytes = 20500;
        cr_expect(gt(u32, forget(&f, &keep, 10), 2), "one step must not do it all");
        cr_expect(eq(i64, count(&f, "SELECT count(*) FROM events"), 20));
        cr_expect(eq(i64, count(&f, "SELECT value FROM meta WHERE key = 'events_bytes'"), 20000));
        gint64 last = catalogue_event_last(f.c);
        cr_expect(eq(i64, catalogue_event_forgotten(f.c), last - 20));
        keep.events = 5;
        forget(&f, &keep, 10);
        cr_expect(eq(i64, count(&f, "SELECT count(*) FROM events"), 5));
        end(&f);
}
