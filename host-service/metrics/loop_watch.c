/* host-service/metrics/loop_watch.c - a source that is never ready, and is asked first. */
#include "host-service/metrics/loop_watch.h"

#define BEFORE_ALL_OTHERS G_MININT

struct LoopWatch {
        GSource source; /* first */
        const struct host_env *env;
        loop_watch_func func;
        gpointer user;
        gint64 woken_us; /* 0: not in a turn */
};

/* GLib asks every source before it sleeps, the most urgent first: all that the last turn had to do is done.
 */
static gboolean before_sleep(GSource *source, gint *timeout)
{
        LoopWatch *w = (LoopWatch *)source;

        *timeout = -1;
        if (w->woken_us) {
                w->func(host_monotonic_us(w->env) - w->woken_us, w->user);
                w->woken_us = 0;
        }
        return FALSE;
}

static gboolean after_sleep(GSource *source)
{
        LoopWatch *w = (LoopWatch *)source;

        w->woken_us = host_monotonic_us(w->env);
        return FALSE;
}

static gboolean never(GSource *source, GSourceFunc callback, gpointer user)
{
        return G_SOURCE_CONTINUE;
}

static GSourceFuncs funcs = {.prepare = before_sleep, .check = after_sleep, .dispatch = never};

LoopWatch *loop_watch_new(const struct host_env *env, loop_watch_func func, gpointer user)
{
        LoopWatch *w = (LoopWatch *)g_source_new(&funcs, sizeof *w);

        w->env = env;
        w->func = func;
        w->user = user;
        g_source_set_priority(&w->source, BEFORE_ALL_OTHERS);
        g_source_attach(&w->source, env->context);
        return w;
}

void loop_watch_free(LoopWatch *w)
{
        if (!w)
                return;
        g_source_destroy(&w->source);
        g_source_unref(&w->source);
}
