/* host-service/store/share.c - the jobs of the shared store: their tasks' lives. */
#include "host-service/store/share.h"

#include "common/error.h"
#include "host-service/store/share_task.h"

#define PROGRESS_MS 500

static void task_free(gpointer p)
{
        struct share_task *t = p;

        host_timer_clear(&t->timer);
        t->clear(t);
        g_object_unref(t->cancellable);
        g_free(t->id);
        g_free(t->what);
        g_free(t);
}

static gboolean show_progress(gpointer user)
{
        struct share_task *t = user;
        gint64 done = __atomic_load_n(&t->done, __ATOMIC_RELAXED);

        if (done != t->shown &&
            catalogue_operation_progress(t->owner->catalogue, t->id, (guint64)done, (guint64)t->total, NULL))
                t->shown = done;
        return G_SOURCE_CONTINUE;
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
        t->id = g_strdup(op->id);
        t->what = what;
        t->cancellable = g_cancellable_new();
        t->timer = host_timer_add(s->env, PROGRESS_MS, show_progress, t);
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
        Share *s = t->owner;
        g_autofree char *text = result ? json_object_text(result) : NULL;
        gboolean cancelled = g_error_matches(why, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
                             g_error_matches(why, MOULT_ERROR, MOULT_ERROR_CANCELLED);

        /* When the daemon goes down, the next one begins anew. */
        if (!cancelled || t->asked || !s->ending)
                jobs_finish(s->jobs, t->id,
                            cancelled ? OPERATION_CANCELLED
                            : why     ? OPERATION_FAILED
                                      : OPERATION_SUCCEEDED,
                            text, why);
        g_ptr_array_remove_fast(s->tasks, t);
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

static void stop(struct share_task *t)
{
        g_cancellable_cancel(t->cancellable);
        if (t->transfer)
                transfer_cancel(t->transfer);
}

void share_cancel(const OperationRecord *op, gpointer share)
{
        Share *s = share;

        for (guint i = 0; i < s->tasks->len; i++) {
                struct share_task *t = s->tasks->pdata[i];

                if (g_str_equal(t->id, op->id)) {
                        t->asked = TRUE;
                        stop(t);
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
        s->ending = TRUE;
        for (guint i = 0; i < s->tasks->len; i++)
                stop(s->tasks->pdata[i]);
        while (s->tasks->len > 0)
                g_main_context_iteration(s->env->context, TRUE);
        g_ptr_array_unref(s->tasks);
        g_free(s);
}
