/* host-service/store/transfer.c - places, attempts, pauses. */
#include "host-service/store/transfer.h"

#include "common/error.h"
#include "common/events.h"

#define PAUSE_FIRST_MS 250u
#define PAUSE_MAX_MS   30000u

struct Transfer {
        const struct host_env *env;
        char *what;
        guint count, parallel, next;
        guint places, working; /* taken; of them in a thread */
        transfer_step_func step;
        transfer_done_func done;
        transfer_pace_func pace; /* or NULL */
        gpointer user;
        GCancellable *cancellable;
        GError *error;        /* the first that ends it */
        GPtrArray *items;     /* that have a place */
        GSource *turn, *held; /* held: by the pace */
};

struct item {
        Transfer *owner;
        guint index, attempts;
        GSource *pause;
};

static void item_free(gpointer p)
{
        struct item *i = p;

        host_timer_clear(&i->pause);
        g_free(i);
}

guint transfer_pause_ms(guint attempt, guint32 chance)
{
        guint whole = PAUSE_FIRST_MS << MIN(attempt - 1, 16);

        if (whole > PAUSE_MAX_MS)
                whole = PAUSE_MAX_MS;
        return whole / 2 + chance % (whole / 2 + 1);
}

static void go_on(Transfer *t);

static gboolean on_turn(gpointer user)
{
        Transfer *t = user;

        host_timer_clear(&t->turn);
        go_on(t);
        return G_SOURCE_REMOVE;
}

static gboolean on_held(gpointer user)
{
        Transfer *t = user;

        host_timer_clear(&t->held);
        go_on(t);
        return G_SOURCE_REMOVE;
}

static void soon(Transfer *t)
{
        if (!t->turn)
                t->turn = host_timer_add(t->env, 0, on_turn, t);
}

static gpointer work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct item *i = data;

        return i->owner->step(i->index, i->owner->user, cancellable, error) ? i : NULL;
}

static void worked(gpointer result, GError *error, gpointer user);

static void launch(struct item *i)
{
        Transfer *t = i->owner;

        i->attempts++;
        t->working++;
        t->env->worker->run(t->env->self, work, i, t->cancellable, worked, i);
}

static gboolean on_pause(gpointer user)
{
        struct item *i = user;

        host_timer_clear(&i->pause);
        launch(i);
        return G_SOURCE_REMOVE;
}

static gboolean may_pass(const GError *e)
{
        return g_error_matches(e, MOULT_ERROR, MOULT_ERROR_TIMEOUT) ||
               g_error_matches(e, MOULT_ERROR, MOULT_ERROR_CORRUPT);
}

static void again(struct item *i, const GError *why)
{
        const struct host_env *env = i->owner->env;
        g_autofree char *ms = NULL, *attempt = g_strdup_printf("%u", i->attempts);
        guint32 chance;
        guint pause;

        host_random_fill(env, &chance, sizeof chance);
        pause = transfer_pause_ms(i->attempts, chance);
        ms = g_strdup_printf("%u", pause);
        event_log(EVENT_NOTICE, "store-retry", why->message, "what", i->owner->what, "attempt", attempt,
                  "pause-ms", ms, NULL);
        i->pause = host_timer_add(env, pause, on_pause, i);
}

static void worked(gpointer result, GError *error, gpointer user)
{
        struct item *i = user;
        Transfer *t = i->owner;

        t->working--;
        if (error && !t->error && may_pass(error) && i->attempts < TRANSFER_ATTEMPTS) {
                again(i, error);
                return;
        }
        if (error && !t->error) {
                t->error = g_error_copy(error);
                if (i->attempts > 1)
                        g_prefix_error(&t->error, "after %u attempts: ", i->attempts);
                g_cancellable_cancel(t->cancellable);
        }
        t->places--;
        g_ptr_array_remove_fast(t->items, i);
        soon(t);
}

static void end(Transfer *t)
{
        transfer_done_func done = t->done;
        gpointer user = t->user;
        g_autoptr(GError) error = g_steal_pointer(&t->error);

        host_timer_clear(&t->turn);
        host_timer_clear(&t->held);
        g_ptr_array_unref(t->items);
        g_object_unref(t->cancellable);
        g_free(t->what);
        g_free(t);
        done(error, user);
}

/* FALSE: not yet; the loop comes back. */
static gboolean may_begin(Transfer *t)
{
        guint wait_ms = t->pace && !t->held ? t->pace(t->user) : 0;

        if (wait_ms > 0)
                t->held = host_timer_add(t->env, wait_ms, on_held, t);
        return !t->held;
}

static void go_on(Transfer *t)
{
        if (t->error) {
                if (t->working == 0)
                        end(t);
                return;
        }
        while (t->next < t->count && t->places < t->parallel && may_begin(t)) {
                struct item *i = g_new0(struct item, 1);

                i->owner = t;
                i->index = t->next++;
                t->places++;
                g_ptr_array_add(t->items, i);
                launch(i);
        }
        if (t->places == 0 && t->next == t->count)
                end(t);
}

Transfer *transfer_start(const struct host_env *env, const char *what, guint count, guint parallel,
                         transfer_step_func step, transfer_done_func done, gpointer user)
{
        Transfer *t = g_new0(Transfer, 1);

        t->env = env;
        t->what = g_strdup(what);
        t->count = count;
        t->parallel = parallel;
        t->step = step;
        t->done = done;
        t->user = user;
        t->cancellable = g_cancellable_new();
        t->items = g_ptr_array_new_with_free_func(item_free);
        soon(t);
        return t;
}

void transfer_set_pace(Transfer *t, transfer_pace_func pace)
{
        t->pace = pace;
}

void transfer_cancel(Transfer *t)
{
        if (!t->error)
                t->error = g_error_new(MOULT_ERROR, MOULT_ERROR_CANCELLED, "cancelled");
        g_cancellable_cancel(t->cancellable);
        for (guint i = 0; i < t->items->len; i++)
                host_timer_clear(&((struct item *)t->items->pdata[i])->pause);
        soon(t);
}
