/* guest-agent/worker.c - a small thread pool. */
#include "guest-agent/worker.h"

struct Worker {
        GThreadPool *pool;
        GMainContext *context;
        unsigned pending; /* main thread only */
};

struct task {
        Worker *worker;
        worker_func run, done;
        gpointer job;
};

struct post {
        worker_func func;
        gpointer data;
};

static gboolean post_dispatch(gpointer user)
{
        struct post *p = user;

        p->func(p->data);
        return G_SOURCE_REMOVE;
}

void main_context_post(GMainContext *context, worker_func func, gpointer data)
{
        GSource *source = g_idle_source_new();
        struct post *p = g_new(struct post, 1);

        *p = (struct post){func, data};
        g_source_set_priority(source, G_PRIORITY_DEFAULT);
        g_source_set_callback(source, post_dispatch, p, g_free);
        g_source_attach(source, context);
        g_source_unref(source);
}

static void task_done(gpointer user)
{
        struct task *t = user;

        t->worker->pending--;
        if (t->done)
                t->done(t->job);
        g_free(t);
}

static void task_run(gpointer data, gpointer user)
{
        struct task *t = data;

        t->run(t->job);
        main_context_post(t->worker->context, task_done, t);
}

Worker *worker_new(unsigned threads)
{
        Worker *w = g_new0(Worker, 1);

        w->pool = g_thread_pool_new(task_run, NULL, (gint)threads, /* exclusive= */ FALSE, NULL);
        w->context = g_main_context_ref_thread_default();
        return w;
}

void worker_free(Worker *w)
{
        if (!w)
                return;
        /* Each `done` uses what its pusher still owns, and may push again; so may whoever else the loop calls
         * meanwhile. */
        while (w->pending > 0)
                g_main_context_iteration(w->context, TRUE);
        g_thread_pool_free(w->pool, /* immediate= */ FALSE, /* wait_= */ TRUE);
        g_main_context_unref(w->context);
        g_free(w);
}

void worker_push(Worker *w, worker_func run, worker_func done, gpointer job)
{
        struct task *t = g_new(struct task, 1);

        *t = (struct task){w, run, done, job};
        w->pending++;
        g_thread_pool_push(w->pool, t, NULL);
}

unsigned worker_pending(const Worker *w)
{
        return w->pending;
}
