/* tests/unit/test_jobs_jobs.c - an operation is started once, taken up after a restart, and told to stop. */
#include "host-service/jobs/jobs.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <sqlite3.h>
#include <string.h>

#include "tests/support/host_world.h"

TestSuite(jobs, .timeout = 60);

/* A runner that writes down what it is told. */
struct diary {
        GString *text;
        Jobs *jobs;
        gboolean finish_at_once;
};

static void note(struct diary *d, const char *what, const OperationRecord *op)
{
        g_string_append_printf(d->text, "%s%s:%s", d->text->len ? " " : "", what, op->request);
}

static void on_start(const OperationRecord *op, gpointer user)
{
        struct diary *d = user;

        note(d, "start", op);
        if (d->finish_at_once)
                jobs_finish(d->jobs, op->id, OPERATION_SUCCEEDED, "{\"n\":1}", NULL);
}

static void on_resume(const OperationRecord *op, gpointer user)
{
        note(user, "resume", op);
}

static void on_cancel(const OperationRecord *op, gpointer user)
{
        note(user, "cancel", op);
}

static const struct job_kind kind = {"push", on_start, on_resume, on_cancel};

struct fixture {
        HostWorld *w;
        Catalogue *c;
        Jobs *j;
        struct diary d;
};

/* A daemon begins. */
static void up(struct fixture *f)
{
        f->c = host_world_catalogue(f->w);
        f->j = jobs_new(&f->w->env, f->c);
        f->d.jobs = f->j;
        g_string_truncate(f->d.text, 0);
        jobs_register(f->j, &kind, &f->d);
        cr_assert(jobs_begin(f->j, NULL));
}

/* It is gone; what it had not done stays undone. */
static void down(struct fixture *f)
{
        jobs_free(f->j);
        catalogue_close(f->c);
}

static void begin(struct fixture *f)
{
        *f = (struct fixture){.w = host_world_new(), .d = {.text = g_string_new(NULL)}};
        up(f);
}

static void end(struct fixture *f)
{
        down(f);
        host_world_free(f->w);
        g_string_free(f->d.text, TRUE);
}

static OperationState state_of(struct fixture *f, const char *id)
{
        g_autoptr(OperationRecord) r = catalogue_operation_get(f->c, id, NULL);

        return r->state;
}

Test(jobs, what_is_added_starts_from_the_loop_not_from_inside)
{
        struct fixture f;

        begin(&f);
        g_autofree char *id = jobs_add(f.j, "push", "{}", NULL);
        cr_expect(eq(str, f.d.text->str, ""));
        cr_expect(eq(int, (int)state_of(&f, id), (int)OPERATION_QUEUED));
        host_world_settle(f.w);
        cr_expect(eq(str, f.d.text->str, "start:{}"));
        cr_expect(eq(int, (int)state_of(&f, id), (int)OPERATION_RUNNING));
        end(&f);
}

Test(jobs, what_was_rolled_back_never_starts)
{
        struct fixture f;

        begin(&f);
        cr_assert(catalogue_begin(f.c, NULL));
        g_autofree char *id = jobs_add(f.j, "push", "{}", NULL);
        catalogue_rollback(f.c);
        host_world_settle(f.w);
        cr_expect(eq(str, f.d.text->str, ""));
        end(&f);
}

Test(jobs, after_a_restart_queued_ones_start_and_running_ones_resume)
{
        struct fixture f;

        begin(&f);
        g_autofree char *ran = jobs_add(f.j, "push", "{\"n\":1}", NULL);
        host_world_settle(f.w);
        g_autofree char *waited = jobs_add(f.j, "push", "{\"n\":2}", NULL);
        down(&f);
        up(&f);
        host_world_settle(f.w);
        cr_expect(eq(str, f.d.text->str, "resume:{\"n\":1} start:{\"n\":2}"));
        down(&f);
        up(&f);
        host_world_settle(f.w);
        cr_expect(eq(str, f.d.text->str, "resume:{\"n\":1} resume:{\"n\":2}"));
        end(&f);
}

Test(jobs, what_has_ended_is_not_taken_up)
{
        struct fixture f;

        begin(&f);
        f.d.finish_at_once = TRUE;
        g_autofree char *id = jobs_add(f.j, "push", "{}", NULL);
        host_world_settle(f.w);
        g_autoptr(OperationRecord) r = catalogue_operation_get(f.c, id, NULL);
        cr_expect(eq(int, (int)r->state, (int)OPERATION_SUCCEEDED));
        cr_expect(eq(str, r->result, "{\"n\":1}"));
        down(&f);
        up(&f);
        host_world_settle(f.w);
        cr_expect(eq(str, f.d.text->str, ""));
        end(&f);
}

Test(jobs, a_cancel_is_not_forgotten_by_a_restart)
{
        struct fixture f;
        g_autoptr(GError) error = NULL;

        begin(&f);
        g_autofree char *id = jobs_add(f.j, "push", "{}", NULL);
        cr_assert(jobs_cancel(f.j, id, NULL));
        cr_expect(eq(str, f.d.text->str, "")); /* nobody runs it yet */
        host_world_settle(f.w);
        cr_expect(eq(str, f.d.text->str, "start:{} cancel:{}"));
        cr_assert(jobs_cancel(f.j, id, NULL));
        host_world_settle(f.w);
        cr_expect(eq(str, f.d.text->str, "start:{} cancel:{} cancel:{}"));
        down(&f);
        up(&f);
        host_world_settle(f.w);
        cr_expect(eq(str, f.d.text->str, "resume:{} cancel:{}"));
        jobs_finish(f.j, id, OPERATION_CANCELLED, NULL, NULL);
        cr_expect(not(jobs_cancel(f.j, id, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE));
        end(&f);
}

Test(jobs, a_cancel_acts_only_when_it_is_on_record)
{
        struct fixture f;

        begin(&f);
        g_autofree char *id = jobs_add(f.j, "push", "{}", NULL);
        host_world_settle(f.w);
        cr_assert(catalogue_begin(f.c, NULL));
        cr_assert(jobs_cancel(f.j, id, NULL));
        cr_expect(eq(str, f.d.text->str, "start:{}"), "before the commit");
        catalogue_rollback(f.c);
        host_world_settle(f.w);
        cr_expect(eq(str, f.d.text->str, "start:{}"), "after a rollback");
        cr_assert(catalogue_begin(f.c, NULL));
        cr_assert(jobs_cancel(f.j, id, NULL));
        cr_assert(catalogue_commit(f.c, NULL));
        host_world_settle(f.w);
        cr_expect(eq(str, f.d.text->str, "start:{} cancel:{}"));
        end(&f);
}

Test(jobs, a_kind_that_nobody_runs_fails_with_a_reason)
{
        struct fixture f;

        begin(&f);
        g_autofree char *id = jobs_add(f.j, "rollout", "{}", NULL);
        host_world_settle(f.w);
        g_autoptr(OperationRecord) r = catalogue_operation_get(f.c, id, NULL);
        cr_expect(eq(int, (int)r->state, (int)OPERATION_FAILED));
        cr_expect(eq(int, (int)r->error, (int)MOULT_ERROR_UNSUPPORTED));
        cr_expect(ne(ptr, strstr(r->text, "rollout"), NULL));
        end(&f);
}

static void outside(struct fixture *f, const char *sql)
{
        sqlite3 *db;

        cr_assert(eq(int, sqlite3_open(f->w->env.catalogue_path, &db), SQLITE_OK));
        cr_assert(eq(int, sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK));
        sqlite3_close(db);
}

Test(jobs, an_end_that_cannot_be_written_is_written_later)
{
        struct fixture f;

        begin(&f);
        g_autofree char *id = jobs_add(f.j, "push", "{}", NULL);
        host_world_settle(f.w);
        outside(&f, "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'full'); END");
        jobs_finish(f.j, id, OPERATION_SUCCEEDED, NULL, NULL);
        cr_expect(eq(int, (int)state_of(&f, id), (int)OPERATION_RUNNING));
        outside(&f, "DROP TRIGGER full");
        while (state_of(&f, id) == OPERATION_RUNNING)
                g_main_context_iteration(f.w->env.context, TRUE);
        cr_expect(eq(int, (int)state_of(&f, id), (int)OPERATION_SUCCEEDED));
        end(&f);
}
