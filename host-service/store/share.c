/* host-service/store/share.c - the jobs of the shared store: their tasks' lives. */
#include "host-service/store/share.h"

#include "common/error.h"
#include "host-service/store/share_task.h"

static void task_free(gpointer p)
{
        struct share_task *t = p;

        job_task_hide(&t->job); /* what it looks at goes */
        t->clear(t);
        job_task_clear(&t->job);
        g_free(t->what);
        g_free(t);
}

JsonObject *share_request(const OperationRecord *op)
{
        g_autoptr(JsonNode) node = json_from_string(op->request, NULL);

        return json_node_dup_object(node);
}

gpointer share_task_new(Share *s, const OperationRecord *op, gsize size, void (*clear)(struct share_task *t),
                        char *what)
{
        struct share_task *t = g_malloc0(size);

        t->owner = s;
        t->clear = clear;
        t->what = what;
        job_task_init(&t->job, s->catalogue, s->jobs, op->id);
        job_task_show(&t->job, s->env, &t->done, &t->total);
        g_ptr_array_add(s->tasks, t);
        return t;
}

void share_task_count(struct share_task *t, gint64 n)
{
        __atomic_add_fetch(&t->done, n, __ATOMIC_RELAXED);
}

void share_task_transfer(struct share_task *t, guint count, guint parallel, transfer_step_func step,
                         transfer_done_func done)
{
        t->transfer = transfer_start(t->owner->env, t->what, count, parallel, step, done, t);
}

void share_task_finish(struct share_task *t, JsonObject *result, const GError *why)
{
        job_task_report(&t->job, result, why);
        g_ptr_array_remove_fast(t->owner->tasks, t);
}

void share_task_hand_over(struct share_task *t)
{
        g_ptr_array_remove_fast(t->owner->tasks, t);
}

gboolean share_task_has_store(struct share_task *t)
{
        g_autoptr(GError) error = NULL;

        if (t->owner->objects)
                return TRUE;
        error = g_error_new(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                            "moultd has no shared store: shared-store in moultd.conf says none");
        share_task_finish(t, NULL, error);
        return FALSE;
}

static void stop_transfer(struct share_task *t)
{
        if (t->transfer)
                transfer_cancel(t->transfer);
}

void share_cancel(const OperationRecord *op, gpointer share)
{
        Share *s = share;

        for (guint i = 0; i < s->tasks->len; i++) {
                struct share_task *t = s->tasks->pdata[i];

                if (g_str_equal(t->job.id, op->id)) {
                        job_task_cancel(&t->job);
                        stop_transfer(t);
                        return;
                }
        }
        releases_cancel(s->releases, op->id); /* a pull that has become an import */
}

Share *share_new(const struct host_env *env, Catalogue *c, Jobs *j, Releases *releases, ObjectStore *objects)
{
        Share *s = g_new0(Share, 1);

        s->env = env;
        s->catalogue = c;
        s->jobs = j;
        s->releases = releases;
        s->objects = objects;
        s->tasks = g_ptr_array_new_with_free_func(task_free);
        jobs_register(j, &share_push_kind, s);
        jobs_register(j, &share_pull_kind, s);
        jobs_register(j, &share_check_kind, s);
        jobs_register(j, &share_gc_kind, s);
        return s;
}

void share_free(Share *s)
{
        if (!s)
                return;
        for (guint i = 0; i < s->tasks->len; i++) {
                struct share_task *t = s->tasks->pdata[i];

                job_task_leave(&t->job);
                stop_transfer(t);
        }
        while (s->tasks->len > 0)
                g_main_context_iteration(s->env->context, TRUE);
        g_ptr_array_unref(s->tasks);
        g_free(s);
}
