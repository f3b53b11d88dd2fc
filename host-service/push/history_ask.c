/* host-service/push/history_ask.c - asking guests for their history. */
#include "host-service/push/history_ask.h"

#include "proto/limits.h"

struct HistoryAsks {
        const struct host_env *env;
        GPtrArray *open; /* of HistoryAsk, owned */
};

typedef struct {
        HistoryAsks *owner;
        Session *session;
        guint64 request;
        GSource *timer; /* ours: a session that is closed forgets its requests without a word */
        guest_history_func done;
        gpointer user;
} HistoryAsk;

static void ask_free(gpointer p)
{
        HistoryAsk *q = p;

        host_timer_clear(&q->timer);
        if (q->request)
                session_forget(q->session, q->request);
        g_clear_pointer(&q->session, session_unref);
        g_free(q);
}

HistoryAsks *history_asks_new(const struct host_env *env)
{
        HistoryAsks *a = g_new0(HistoryAsks, 1);

        a->env = env;
        a->open = g_ptr_array_new_with_free_func(ask_free);
        return a;
}

static void answer(HistoryAsk *q, const Moult__History *history, const GError *error)
{
        guest_history_func done = q->done;
        gpointer user = q->user;

        g_ptr_array_remove_fast(q->owner->open, q);
        done(history, error, user);
}

void history_asks_free(HistoryAsks *a)
{
        g_autoptr(GError) error = NULL;

        if (!a)
                return;
        error = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_CANCELLED, "moultd is stopping");
        while (a->open->len > 0)
                answer(a->open->pdata[0], NULL, error);
        g_ptr_array_unref(a->open);
        g_free(a);
}

static void on_answer(Session *s, const Message *reply, const GError *error, gpointer user)
{
        HistoryAsk *q = user;

        q->request = 0;
        answer(q, reply ? reply->history : NULL, error);
}

static gboolean on_timeout(gpointer user)
{
        HistoryAsk *q = user;
        g_autoptr(GError) error = g_error_new_literal(
                MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                q->session ? "the guest does not answer"
                           : "the guest is not connected: is the VM running, and moult-agent in it?");

        answer(q, NULL, error);
        return G_SOURCE_REMOVE;
}

void history_asks_add(HistoryAsks *a, Session *s, guint count, guint timeout_ms, guest_history_func done,
                      gpointer user)
{
        Moult__HistoryQuery query = MOULT__HISTORY_QUERY__INIT;
        Message m = MOULT__MESSAGE__INIT;
        HistoryAsk *q = g_new0(HistoryAsk, 1);

        q->owner = a;
        q->done = done;
        q->user = user;
        q->timer = host_timer_add(a->env, s ? timeout_ms : 0, on_timeout, q);
        g_ptr_array_add(a->open, q);
        if (!s)
                return;
        q->session = session_ref(s);
        query.count = CLAMP(count, 1, LIMIT_HISTORY);
        m.body_case = MOULT__MESSAGE__BODY_HISTORY_QUERY;
        m.history_query = &query;
        q->request = session_request(s, &m, 0, on_answer, q);
}
