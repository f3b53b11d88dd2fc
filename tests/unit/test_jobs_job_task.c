/* tests/unit/test_jobs_job_task.c - how a job that works for a while ends, and what is shown of it before. */
#include "host-service/jobs/job_task.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "common/error.h"
#include "tests/support/host_world.h"

TestSuite(job_task, .timeout = 60);

typedef struct {
        HostWorld *w;
        Catalogue *c;
        Jobs *jobs;
        struct job_task task;
} Rig;

static void begin_task(const OperationRecord *op, gpointer user)
{
        Rig *r = user;

        job_task_init(&r->task, r->c, r->jobs, op->id);
}

static void cancel_task(const OperationRecord *op, gpointer user)
{
        job_task_cancel(&((Rig *)user)->task);
}

static const struct job_kind kind = {"store-gc", begin_task, begin_task, cancel_task};

/* With a task that works. */
static Rig *rig_new(void)
{
        Rig *r = g_new0(Rig, 1);
        g_autofree char *id = NULL;

        r->w = host_world_new();
        r->c = host_world_catalogue(r->w);
        r->jobs = jobs_new(&r->w->env, r->c);
        jobs_register(r->jobs, &kind, r);
        cr_assert(jobs_begin(r->jobs, NULL));
        id = jobs_add(r->jobs, "store-gc", "{}", NULL);
        host_world_settle(r->w);
        cr_assert(eq(str, r->task.id, id));
        return r;
}

static void rig_free(Rig *r)
{
        job_task_clear(&r->task);
        jobs_free(r->jobs);
        catalogue_close(r->c);
        host_world_free(r->w);
        g_free(r);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rig, rig_free)

static OperationRecord *operation(Rig *r)
{
        return catalogue_operation_get(r->c, r->task.id, NULL);
}

static void expect_state(Rig *r, OperationState state)
{
        g_autoptr(OperationRecord) op = operation(r);

        cr_expect(eq(int, (int)op->state, (int)state));
}

/* What the work says when its cancellable is cancelled. */
static GError *cancelled(Rig *r)
{
        GError *why = NULL;

        cr_assert(g_cancellable_set_error_if_cancelled(r->task.cancellable, &why));
        return why;
}

Test(job_task, an_end_without_an_error_is_a_success_with_its_result)
{
        g_autoptr(Rig) r = rig_new();
        JsonObject *result = json_object_new();
        g_autoptr(OperationRecord) op = NULL;

        json_object_set_int_member(result, "n", 1);
        job_task_report(&r->task, result, NULL);
        op = operation(r);
        cr_expect(eq(int, (int)op->state, (int)OPERATION_SUCCEEDED));
        cr_expect(eq(str, op->result, "{\"n\":1}"));
}

Test(job_task, cancelled_by_a_client_it_ends_as_cancelled)
{
        g_autoptr(Rig) r = rig_new();
        g_autoptr(GError) why = NULL;

        cr_assert(jobs_cancel(r->jobs, r->task.id, NULL));
        host_world_settle(r->w);
        why = cancelled(r);
        job_task_report(&r->task, NULL, why);
        expect_state(r, OPERATION_CANCELLED);
}

Test(job_task, cancelled_by_the_daemons_end_it_goes_on_after_the_next_start)
{
        g_autoptr(Rig) r = rig_new();
        g_autoptr(GError) why = NULL;

        job_task_leave(&r->task);
        why = cancelled(r);
        job_task_report(&r->task, NULL, why);
        expect_state(r, OPERATION_RUNNING);
}

Test(job_task, what_a_client_has_cancelled_ends_also_when_the_daemon_goes_down)
{
        g_autoptr(Rig) r = rig_new();
        g_autoptr(GError) why = NULL;

        job_task_cancel(&r->task);
        job_task_leave(&r->task);
        why = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_CANCELLED, "by somebody");
        job_task_report(&r->task, NULL, why);
        expect_state(r, OPERATION_CANCELLED);
}

Test(job_task, what_fails_or_is_done_while_the_daemon_goes_down_has_ended)
{
        g_autoptr(Rig) failed = rig_new(), done = rig_new();
        g_autoptr(GError) why = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_CORRUPT, "damaged");
        g_autoptr(OperationRecord) op = NULL;

        job_task_leave(&failed->task);
        job_task_report(&failed->task, NULL, why);
        op = operation(failed);
        cr_expect(eq(int, (int)op->state, (int)OPERATION_FAILED));
        cr_expect(eq(str, op->text, "damaged"));
        job_task_leave(&done->task);
        job_task_report(&done->task, NULL, NULL);
        expect_state(done, OPERATION_SUCCEEDED);
}

Test(job_task, its_row_tells_how_far_it_is_until_it_is_hidden)
{
        g_autoptr(Rig) r = rig_new();
        gint64 done = 3, total = 10;
        g_autoptr(OperationRecord) op = NULL, later = NULL;

        job_task_show(&r->task, &r->w->env, &done, &total);
        do {
                g_main_context_iteration(NULL, TRUE);
                g_clear_pointer(&op, operation_record_free);
                op = operation(r);
        } while (op->done == 0);
        cr_expect(eq(u64, op->done, 3));
        cr_expect(eq(u64, op->total, 10));
        job_task_hide(&r->task);
        done = 4;
        while (g_main_context_iteration(NULL, FALSE))
                ;
        cr_expect(eq(ptr, r->task.timer, NULL), "nothing looks any more");
        later = operation(r);
        cr_expect(eq(u64, later->done, 3));
}
