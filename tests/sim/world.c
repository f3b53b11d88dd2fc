/* tests/sim/world.c - simulated time, chance and the trace. */
#include "tests/sim/world.h"

#include <stdio.h>
#include <string.h>

#define BEGIN_US      G_USEC_PER_SEC
#define WALL_BEGIN_US (G_GINT64_CONSTANT(1700000000) * G_USEC_PER_SEC)
/* So many turns of the loop at one moment are no work but a circle. */
#define TURNS_MAX 20000u

struct event {
        gint64 at_us;
        guint64 number;
        world_func func;
        gpointer user;
        GDestroyNotify drop; /* frees @user of one that never comes; or NULL */
};

struct alarm {
        Session *session;
        gint64 at_us;
};

typedef struct {
        GSource base;
        World *w;
        gint64 at_us, every_us;
} Timer;

struct World {
        GMainContext *context;
        GRand *rand;
        gint64 now_us, wall_offset_us;
        GSequence *events; /* of struct event, owned */
        guint64 next_number;
        GPtrArray *timers; /* of Timer, borrowed: each goes by itself */
        GArray *alarms;    /* of struct alarm */
        gboolean hurry, show, summed;
        GChecksum *sum;
        char *failure;
};

/* Nothing outside can wake us. */
static gint no_poll(GPollFD *fds, guint n, gint timeout)
{
        for (guint i = 0; i < n; i++)
                fds[i].revents = 0;
        return 0;
}

static void event_free(gpointer p)
{
        struct event *e = p;

        if (e->drop)
                e->drop(e->user);
        g_free(e);
}

World *world_new(guint64 seed, gboolean show_trace)
{
        guint32 parts[] = {(guint32)seed, (guint32)(seed >> 32)};
        World *w = g_new0(World, 1);

        w->context = g_main_context_new();
        g_main_context_set_poll_func(w->context, no_poll);
        w->rand = g_rand_new_with_seed_array(parts, G_N_ELEMENTS(parts));
        w->now_us = BEGIN_US;
        w->wall_offset_us = WALL_BEGIN_US;
        w->events = g_sequence_new(event_free);
        w->timers = g_ptr_array_new();
        w->alarms = g_array_new(FALSE, FALSE, sizeof(struct alarm));
        w->sum = g_checksum_new(G_CHECKSUM_SHA256);
        w->show = show_trace;
        return w;
}

void world_free(World *w)
{
        if (!w)
                return;
        g_main_context_unref(w->context);
        g_sequence_free(w->events);
        g_ptr_array_unref(w->timers);
        g_array_unref(w->alarms);
        g_rand_free(w->rand);
        g_checksum_free(w->sum);
        g_free(w->failure);
        g_free(w);
}

GMainContext *world_context(World *w)
{
        return w->context;
}

gint64 world_now_us(const World *w)
{
        return w->now_us;
}

gint64 world_wall_us(const World *w)
{
        return w->now_us + w->wall_offset_us;
}

void world_jump_wall(World *w, gint64 by_us)
{
        w->wall_offset_us += by_us;
}

/* --- chance --- */

guint world_random(World *w, guint n)
{
        return n > 1 ? (guint)g_rand_int_range(w->rand, 0, (gint32)n) : 0;
}

guint world_between(World *w, guint low, guint high)
{
        return low + world_random(w, high - low + 1);
}

gboolean world_chance(World *w, guint of_1000)
{
        return of_1000 > 0 && world_random(w, 1000) < of_1000;
}

void world_random_fill(World *w, void *buf, gsize len)
{
        guint8 *out = buf;

        for (gsize i = 0; i < len; i += 4) {
                guint32 r = g_rand_int(w->rand);

                memcpy(out + i, &r, MIN(len - i, 4));
        }
}

/* --- time --- */

static gint compare_events(gconstpointer a, gconstpointer b, gpointer user)
{
        const struct event *x = a, *y = b;

        if (x->at_us != y->at_us)
                return x->at_us < y->at_us ? -1 : 1;
        return x->number < y->number ? -1 : 1;
}

void world_at(World *w, gint64 delay_us, world_func func, gpointer user)
{
        world_at_full(w, delay_us, func, user, NULL);
}

void world_at_full(World *w, gint64 delay_us, world_func func, gpointer user, GDestroyNotify drop)
{
        struct event *e = g_new(struct event, 1);

        *e = (struct event){w->now_us + MAX(delay_us, 0), w->next_number++, func, user, drop};
        g_sequence_insert_sorted(w->events, e, compare_events, NULL);
}

void world_forget(World *w, gconstpointer user)
{
        GSequenceIter *i = g_sequence_get_begin_iter(w->events);

        while (!g_sequence_iter_is_end(i)) {
                GSequenceIter *next = g_sequence_iter_next(i);

                if (((struct event *)g_sequence_get(i))->user == user)
                        g_sequence_remove(i);
                i = next;
        }
}

static gboolean timer_is_due(const Timer *t)
{
        return t->w->hurry || t->w->now_us >= t->at_us;
}

static gboolean timer_prepare(GSource *source, gint *timeout)
{
        *timeout = -1;
        return timer_is_due((Timer *)source);
}

static gboolean timer_check(GSource *source)
{
        return timer_is_due((Timer *)source);
}

static gboolean timer_dispatch(GSource *source, GSourceFunc func, gpointer user)
{
        Timer *t = (Timer *)source;

        t->at_us = t->w->now_us + t->every_us;
        return func(user);
}

static void timer_finalize(GSource *source)
{
        g_ptr_array_remove_fast(((Timer *)source)->w->timers, source);
}

GSource *world_timer_new(World *w, gint64 delay_us)
{
        static GSourceFuncs funcs = {timer_prepare, timer_check, timer_dispatch, timer_finalize, NULL, NULL};
        Timer *t = (Timer *)g_source_new(&funcs, sizeof(Timer));

        t->w = w;
        t->every_us = delay_us;
        t->at_us = w->now_us + delay_us;
        g_ptr_array_add(w->timers, t);
        return &t->base;
}

void world_hurry(World *w, gboolean on)
{
        w->hurry = on;
}

static gint64 session_now_us(gpointer env)
{
        return world_now_us(env);
}

static void session_random(gpointer env, void *ret, gsize len)
{
        world_random_fill(env, ret, len);
}

static void session_arm(gpointer env, Session *s, gint64 deadline_us)
{
        World *w = env;

        for (guint i = 0; i < w->alarms->len; i++) {
                struct alarm *a = &g_array_index(w->alarms, struct alarm, i);

                if (a->session != s)
                        continue;
                if (deadline_us == G_MAXINT64)
                        g_array_remove_index(w->alarms, i);
                else
                        a->at_us = deadline_us;
                return;
        }
        if (deadline_us != G_MAXINT64) {
                struct alarm a = {s, deadline_us};

                g_array_append_val(w->alarms, a);
        }
}

const struct session_environment world_session_environment = {session_now_us, session_random, session_arm};

static void settle(World *w)
{
        for (guint turns = 0; g_main_context_iteration(w->context, FALSE); turns++)
                if (turns > TURNS_MAX) {
                        world_fail(w, "the host's loop goes round in circles and time stands still");
                        return;
                }
}

static gint64 next_timer_us(const World *w)
{
        gint64 next = G_MAXINT64;

        for (guint i = 0; i < w->timers->len; i++) {
                const Timer *t = w->timers->pdata[i];

                if (t->at_us < next && !g_source_is_destroyed((GSource *)&t->base))
                        next = t->at_us;
        }
        return next;
}

static gint64 next_alarm_us(const World *w, guint *ret_index)
{
        gint64 next = G_MAXINT64;

        for (guint i = 0; i < w->alarms->len; i++) {
                const struct alarm *a = &g_array_index(w->alarms, struct alarm, i);

                if (a->at_us < next) {
                        next = a->at_us;
                        *ret_index = i;
                }
        }
        return next;
}

static void run_event(World *w)
{
        GSequenceIter *i = g_sequence_get_begin_iter(w->events);
        struct event *first = g_sequence_get(i);
        world_func func = first->func;
        gpointer user = first->user;

        first->drop = NULL;
        g_sequence_remove(i);
        func(user);
}

gboolean world_step(World *w)
{
        GSequenceIter *first;
        gint64 timer, alarm, event;
        guint index = 0;

        settle(w);
        first = g_sequence_get_begin_iter(w->events);
        event = g_sequence_iter_is_end(first) ? G_MAXINT64 : ((struct event *)g_sequence_get(first))->at_us;
        timer = next_timer_us(w);
        alarm = next_alarm_us(w, &index);
        if (MIN(MIN(timer, alarm), event) == G_MAXINT64)
                return FALSE;
        w->now_us = MAX(w->now_us, MIN(MIN(timer, alarm), event));
        if (event <= w->now_us) {
                run_event(w);
        } else if (alarm <= w->now_us) {
                struct alarm *a = &g_array_index(w->alarms, struct alarm, index);
                Session *s = a->session;

                a->at_us = G_MAXINT64; /* until it arms itself again */
                session_tick(s);
        }
        settle(w);
        return TRUE;
}

/* --- what is told --- */

void world_trace(World *w, const char *format, ...)
{
        char line[512];
        va_list args;
        int n;

        if (w->summed)
                return;
        n = g_snprintf(line, sizeof line, "%" G_GINT64_FORMAT ".%06d ", w->now_us / G_USEC_PER_SEC,
                       (int)(w->now_us % G_USEC_PER_SEC));

        va_start(args, format);
        n += g_vsnprintf(line + n, sizeof line - (gsize)n, format, args);
        va_end(args);
        n = MIN(n, (int)sizeof line - 1);
        g_checksum_update(w->sum, (const guchar *)line, n + 1);
        if (w->show)
                puts(line);
}

const char *world_digest(World *w)
{
        w->summed = TRUE;
        return g_checksum_get_string(w->sum);
}

void world_fail(World *w, const char *format, ...)
{
        va_list args;

        if (w->failure)
                return;
        va_start(args, format);
        w->failure = g_strdup_vprintf(format, args);
        va_end(args);
        world_trace(w, "BROKEN %s", w->failure);
}

const char *world_failure(const World *w)
{
        return w->failure;
}
