/* proto/session_environment.c - what a session takes from its surroundings, the real ones: clock, randomness,
 * timer. */
#include <sys/random.h>

#include "proto/session_internal.h"

/* Surroundings: the real ones. */

static void on_time(gpointer user)
{
        session_tick(user);
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
        if (!hub_item_is_on_loop(&s->timer)) {
                if (deadline_us == G_MAXINT64)
                        return;
                hub_item_add(&s->timer, -1, on_time, s);
        }
        hub_item_set_time(&s->timer, deadline_us == G_MAXINT64 ? -1 : deadline_us);
}

const struct session_environment session_real_environment = {real_now_us, real_random, real_arm};
