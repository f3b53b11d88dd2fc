/* proto/session_environment.c - what a session takes from its surroundings, the real ones: clock, randomness,
 * timer. */
#include <sys/random.h>

#include "proto/session_internal.h"

/* Surroundings: the real ones. */

typedef struct {
        GSource base;
        Session *s;
} TimerSource;

static gboolean timer_dispatch(GSource *source, GSourceFunc callback, gpointer user)
{
        g_source_set_ready_time(source, -1);
        session_tick(((TimerSource *)source)->s);
        return G_SOURCE_CONTINUE;
}

static gint64 real_now_us(gpointer env)
{
        return g_get_monotonic_time();
}

static void real_random(gpointer env, void *ret, gsize len)
{
        ssize_t n;

        do
                n = getrandom(ret, len, 0);
        while (n < 0); /* EINTR, before the pool is ready; up to 256 bytes come whole */
        g_assert((gsize)n == len);
}

static void real_arm(gpointer env, Session *s, gint64 deadline_us)
{
        static GSourceFuncs funcs = {.dispatch = timer_dispatch};

        if (!s->timer) {
                g_autoptr(GMainContext) context = g_main_context_ref_thread_default();

                s->timer = g_source_new(&funcs, sizeof(TimerSource));
                ((TimerSource *)s->timer)->s = s;
                g_source_set_static_name(s->timer, "moult session");
                g_source_attach(s->timer, context);
        }
        g_source_set_ready_time(s->timer, deadline_us == G_MAXINT64 ? -1 : deadline_us);
}

const struct session_environment session_real_environment = {real_now_us, real_random, real_arm};
