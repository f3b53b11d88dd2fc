/* host-service/release/ask_ahead.c - questions to an agent, several under way, and their answers in the order
 * of the questions. */
#include "host-service/release/ask_ahead.h"

#include "host-service/release/agent_tree.h"

struct asked {
        GBytes *question; /* packed */
        Message *answer;
        GError *error;
        gboolean done; /* protected by AskAhead's lock */
};

struct AskAhead {
        const struct agent_tree_asker *asker;
        GThreadPool *pool; /* NULL: no threads */
        GQueue pending;    /* struct asked *, the oldest first; this thread only */
        gint ended;        /* atomic: what is not under way yet is not asked */
        GMutex lock;
        GCond answered;
};

static void asked_free(gpointer data)
{
        struct asked *q = data;

        g_bytes_unref(q->question);
        if (q->answer)
                message_free(q->answer);
        g_clear_error(&q->error);
        g_free(q);
}

static void ask(const AskAhead *a, struct asked *q)
{
        g_autoptr(Message) m = message_unpack(q->question, &q->error);

        if (m)
                q->answer = a->asker->ask(m, a->asker->user, &q->error);
}

static void run(gpointer data, gpointer user)
{
        struct asked *q = data;
        AskAhead *a = user;

        if (!g_atomic_int_get(&a->ended))
                ask(a, q);
        g_mutex_lock(&a->lock);
        q->done = TRUE;
        g_cond_signal(&a->answered);
        g_mutex_unlock(&a->lock);
}

AskAhead *ask_ahead_new(const struct agent_tree_asker *asker)
{
        AskAhead *a = g_new0(AskAhead, 1);

        a->asker = asker;
        g_queue_init(&a->pending);
        g_mutex_init(&a->lock);
        g_cond_init(&a->answered);
        if (asker->width > 1)
                a->pool = g_thread_pool_new(run, a, (gint)asker->width, /* exclusive= */ TRUE, NULL);
        return a;
}

void ask_ahead_free(AskAhead *a)
{
        if (!a)
                return;
        g_atomic_int_set(&a->ended, 1);
        if (a->pool)
                g_thread_pool_free(a->pool, /* immediate= */ FALSE, /* wait_= */ TRUE);
        g_queue_clear_full(&a->pending, asked_free);
        g_mutex_clear(&a->lock);
        g_cond_clear(&a->answered);
        g_free(a);
}

gboolean ask_ahead_has_room(const AskAhead *a)
{
        return g_queue_get_length((GQueue *)&a->pending) < ASK_AHEAD_FACTOR * MAX(a->asker->width, 1);
}

void ask_ahead_push(AskAhead *a, const Message *question)
{
        struct asked *q = g_new0(struct asked, 1);

        q->question = message_pack(question);
        g_queue_push_tail(&a->pending, q);
        if (a->pool)
                g_thread_pool_push(a->pool, q, NULL);
}

Message *ask_ahead_take(AskAhead *a, GError **error)
{
        struct asked *q = g_queue_pop_head(&a->pending);
        Message *answer;

        if (a->pool) {
                g_mutex_lock(&a->lock);
                while (!q->done)
                        g_cond_wait(&a->answered, &a->lock);
                g_mutex_unlock(&a->lock);
        } else {
                ask(a, q);
        }
        answer = g_steal_pointer(&q->answer);
        if (!answer)
                g_propagate_error(error, g_steal_pointer(&q->error));
        asked_free(q);
        return answer;
}
