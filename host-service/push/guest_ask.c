/* host-service/push/guest_ask.c - asking guests for what the API wants to know of them. */
#include "host-service/push/guest_ask.h"

#include "proto/limits.h"

struct GuestAsks {
        const struct host_env *env;
        GPtrArray *open; /* of GuestAsk, owned */
};

typedef struct {
        GuestAsks *owner;
        Session *session;
        guint64 request;
        GSource *timer; /* ours: a session that is closed forgets its requests without a word */
        guest_answer_func done;
        gpointer user;
} GuestAsk;

static void ask_free(gpointer p)
{
        GuestAsk *q = p;

        host_timer_clear(&q->timer);
        if (q->request)
                session_forget(q->session, q->request);
        g_clear_pointer(&q->session, session_unref);
        g_free(q);
}

GuestAsks *guest_asks_new(const struct host_env *env)
{
        GuestAsks *a = g_new0(GuestAsks, 1);

        a->env = env;
        a->open = g_ptr_array_new_with_free_func(ask_free);
        return a;
}

static void answer(GuestAsk *q, const Message *reply, const GError *error)
{
        guest_answer_func done = q->done;
        gpointer user = q->user;

        g_ptr_array_remove_fast(q->owner->open, q);
        done(reply, error, user);
}

void guest_asks_free(GuestAsks *a)
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
        GuestAsk *q = user;

        q->request = 0;
        answer(q, reply, error);
}

static gboolean on_timeout(gpointer user)
{
        GuestAsk *q = user;
        g_autoptr(GError) error = g_error_new_literal(
                MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                q->session ? "the guest does not answer"
                           : "the guest is not connected: is the VM running, and moult-agent in it?");

        answer(q, NULL, error);
        return G_SOURCE_REMOVE;
}

void guest_asks_add(GuestAsks *a, Session *s, const Message *question, guint timeout_ms,
                    guest_answer_func done, gpointer user)
{
        Message m = *question; /* its id is assigned in the copy */
        GuestAsk *q = g_new0(GuestAsk, 1);

        q->owner = a;
        q->done = done;
        q->user = user;
        q->timer = host_timer_add(a->env, s ? timeout_ms : 0, on_timeout, q);
        g_ptr_array_add(a->open, q);
        if (!s)
                return;
        q->session = session_ref(s);
        q->request = session_request(s, &m, 0, on_answer, q);
}

struct history_wait {
        guest_history_func done;
        gpointer user;
};

static void on_history(const Message *answer, const GError *error, gpointer user)
{
        struct history_wait *w = user;

        w->done(answer ? answer->history : NULL, error, w->user);
        g_free(w);
}

void guest_asks_add_history(GuestAsks *a, Session *s, guint count, guint timeout_ms, guest_history_func done,
                            gpointer user)
{
        Moult__HistoryQuery query = MOULT__HISTORY_QUERY__INIT;
        Message question = MOULT__MESSAGE__INIT;
        struct history_wait *w = g_new(struct history_wait, 1);

        *w = (struct history_wait){done, user};
        query.count = CLAMP(count, 1, LIMIT_HISTORY);
        question.body_case = MOULT__MESSAGE__BODY_HISTORY_QUERY;
        question.history_query = &query;
        guest_asks_add(a, s, &question, timeout_ms, on_history, w);
}
