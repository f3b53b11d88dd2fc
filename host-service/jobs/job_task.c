/* host-service/jobs/job_task.c - what every job has that works for a while. */
#include "host-service/jobs/job_task.h"

#include "common/error.h"
#include "host-service/catalogue/json.h"

#define PROGRESS_MS 500

void job_task_init(struct job_task *t, Catalogue *c, Jobs *j, const char *id)
{
        *t = (struct job_task){
                .id = g_strdup(id), .cancellable = g_cancellable_new(), .catalogue = c, .jobs = j};
}

void job_task_clear(struct job_task *t)
{
        job_task_hide(t);
        g_clear_object(&t->cancellable);
        g_clear_pointer(&t->id, g_free);
}

static gboolean show_progress(gpointer user)
{
        struct job_task *t = user;
        gint64 done = __atomic_load_n(t->done, __ATOMIC_RELAXED);
        gint64 total = __atomic_load_n(t->total, __ATOMIC_RELAXED);

        /* Progress that could not be written is shown the next time. */
        if (done != t->shown &&
            catalogue_operation_progress(t->catalogue, t->id, (guint64)done, (guint64)total, NULL))
                t->shown = done;
        return G_SOURCE_CONTINUE;
}

void job_task_show(struct job_task *t, const struct host_env *env, const gint64 *done, const gint64 *total)
{
        t->done = done;
        t->total = total;
        t->timer = host_timer_add(env, PROGRESS_MS, show_progress, t);
}

void job_task_hide(struct job_task *t)
{
        host_timer_clear(&t->timer);
}

void job_task_cancel(struct job_task *t)
{
        t->asked = TRUE;
        g_cancellable_cancel(t->cancellable);
}

void job_task_leave(struct job_task *t)
{
        t->leaving = TRUE;
        g_cancellable_cancel(t->cancellable);
}

void job_task_report(struct job_task *t, JsonObject *result, const GError *why)
{
        g_autofree char *text = result ? json_object_text(result) : NULL;
        gboolean cancelled = g_error_matches(why, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
                             g_error_matches(why, MOULT_ERROR, MOULT_ERROR_CANCELLED);

        if (cancelled && t->leaving && !t->asked)
                return;
        jobs_finish(t->jobs, t->id,
                    cancelled ? OPERATION_CANCELLED
                    : why     ? OPERATION_FAILED
                              : OPERATION_SUCCEEDED,
                    text, why);
}
