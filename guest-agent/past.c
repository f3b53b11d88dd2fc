/* guest-agent/past.c - the history, read when the engine is free, answered from memory when it is not. */
#include "guest-agent/past.h"

#include <string.h>

#include "common/events.h"
#include "proto/limits.h"

/* Bytes of one answer: a frame holds 512 KiB. */
#define ANSWER_BYTES (256u * 1024u)

struct Past {
        Worker *engine;
        Upgrade *upgrade;
        Moult__History *history; /* the last one that was read, or NULL */
};

struct question {
        Past *past;
        void (*answer)(struct question *q);
        struct ticket *ticket; /* NULL for a refresh */
        guint8 id[16];
        unsigned count;
        Moult__Status *status;
        Moult__TransactionState *found;
        Moult__History *read;
        GError *error;
};

static void question_free(struct question *q)
{
        ticket_free(q->ticket);
        if (q->status)
                moult__status__free_unpacked(q->status, NULL);
        transaction_state_free(q->found);
        upgrade_history_free(q->read);
        g_clear_error(&q->error);
        g_free(q);
}

static void history_read(gpointer job)
{
        struct question *q = job;

        q->read = upgrade_history(q->past->upgrade, LIMIT_HISTORY, &q->error);
}

static void history_was_read(gpointer job)
{
        struct question *q = job;

        if (q->read) {
                upgrade_history_free(q->past->history);
                q->past->history = g_steal_pointer(&q->read);
        } else {
                event_log(EVENT_WARNING, "agent-history-unreadable", q->error->message, NULL);
        }
        if (q->answer)
                q->answer(q);
        question_free(q);
}

static struct question *question_new(Past *p, struct ticket *ticket, void (*answer)(struct question *q))
{
        struct question *q = g_new0(struct question, 1);

        q->past = p;
        q->ticket = ticket;
        q->answer = answer;
        return q;
}

/* Reads first if that does not mean waiting for a step. */
static void ask(struct question *q, gboolean step_runs)
{
        if (!step_runs || !q->past->history) {
                worker_push(q->past->engine, history_read, history_was_read, q);
                return;
        }
        q->answer(q);
        question_free(q);
}

static void answer_history(struct question *q)
{
        const Moult__History *all = q->past->history;
        Moult__History some = MOULT__HISTORY__INIT;
        Message m = MOULT__MESSAGE__INIT;
        size_t bytes = 0;

        if (!all) {
                ticket_reply_error(g_steal_pointer(&q->ticket), q->error);
                return;
        }
        some.items = all->items;
        while (some.n_items < MIN(q->count, all->n_items) && bytes < ANSWER_BYTES)
                bytes += moult__history_item__get_packed_size(all->items[some.n_items++]);
        m.body_case = MOULT__MESSAGE__BODY_HISTORY;
        m.history = &some;
        ticket_reply(g_steal_pointer(&q->ticket), &m);
}

static void answer_status(struct question *q)
{
        const Moult__History *all = q->past->history;
        Message m = MOULT__MESSAGE__INIT;
        Moult__Status status = *q->status;

        for (size_t i = 0; all && i < all->n_items && status.release.len == 0; i++)
                if (all->items[i]->phase == MOULT__TRANSACTION_PHASE__PHASE_COMMITTED)
                        status.release = all->items[i]->release;
        m.body_case = MOULT__MESSAGE__BODY_STATUS;
        m.status = &status;
        ticket_reply(g_steal_pointer(&q->ticket), &m);
}

static void push_find(gpointer job)
{
        struct question *q = job;

        q->found = upgrade_find_push(q->past->upgrade, q->id);
}

static void push_was_found(gpointer job)
{
        struct question *q = job;
        Moult__TransactionState none = MOULT__TRANSACTION_STATE__INIT;

        none.push_id = message_blob(q->id, sizeof q->id);
        ticket_reply_state(g_steal_pointer(&q->ticket), q->found ? q->found : &none);
        question_free(q);
}

Past *past_new(Worker *engine, Upgrade *upgrade)
{
        Past *p = g_new0(Past, 1);

        p->engine = engine;
        p->upgrade = upgrade;
        past_refresh(p);
        return p;
}

void past_free(Past *p)
{
        if (!p)
                return;
        upgrade_history_free(p->history);
        g_free(p);
}

void past_refresh(Past *p)
{
        worker_push(p->engine, history_read, history_was_read, question_new(p, NULL, NULL));
}

void past_history(Past *p, struct ticket *ticket, gboolean step_runs, unsigned count)
{
        struct question *q = question_new(p, ticket, answer_history);

        q->count = count ? count : LIMIT_HISTORY;
        ask(q, step_runs);
}

void past_status(Past *p, struct ticket *ticket, gboolean step_runs, const Moult__Status *status)
{
        struct question *q = question_new(p, ticket, answer_status);
        size_t len = moult__status__get_packed_size(status);
        g_autofree guint8 *buf = g_malloc(MAX(len, 1));

        moult__status__pack(status, buf);
        q->status = moult__status__unpack(NULL, len, buf);
        ask(q, step_runs);
}

void past_push(Past *p, struct ticket *ticket, const guint8 push_id[static 16])
{
        struct question *q = question_new(p, ticket, NULL);

        memcpy(q->id, push_id, sizeof q->id);
        worker_push(p->engine, push_find, push_was_found, q);
}
