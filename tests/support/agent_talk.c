/* tests/support/agent_talk.c - the agent's side of the protocol, without an agent. */
#include "tests/support/agent_talk.h"

#include <string.h>

#include "common/error.h"
#include "guest-agent/push_rules.h"
#include "proto/limits.h"

#define P(x)        MOULT__TRANSACTION_PHASE__PHASE_##x
#define GENERATIONS 16u

const char *agent_phase_name(Moult__TransactionPhase phase)
{
        static const char *const names[] = {"none",         "planning",    "planned", "staging",
                                            "staged",       "committing",  "active",  "committed",
                                            "rolling-back", "rolled-back", "refused", "failed"};

        return names[phase];
}

void agent_talk_begin(AgentTalk *t, const guint8 *push_id, gboolean rollback, gboolean dry_run)
{
        memcpy(t->push_id, push_id, sizeof t->push_id);
        t->known = TRUE;
        t->rollback = rollback;
        t->dry_run = dry_run;
}

void agent_talk_close(AgentTalk *t)
{
        if (!t->session)
                return;
        session_close(t->session);
        g_clear_pointer(&t->session, session_unref);
}

static void fill(const AgentTalk *t, Moult__TransactionState *s)
{
        moult__transaction_state__init(s);
        s->push_id = message_blob((guint8 *)t->push_id, sizeof t->push_id);
        s->phase = t->known ? t->phase : P(NONE);
        if (!t->known)
                return;
        s->error = t->error;
        s->text = message_bytes(t->error ? "so it went" : "");
        t->ops->fill(t->agent, s);
}

static void answer(AgentTalk *t, const Message *request, Moult__TransactionState *s)
{
        Message m = MOULT__MESSAGE__INIT;

        if (!t->session)
                return; /* it was cut meanwhile */
        m.body_case = MOULT__MESSAGE__BODY_STATE;
        m.state = s;
        session_reply(t->session, request, &m);
}

void agent_talk_answer(AgentTalk *t, const Message *request)
{
        Moult__TransactionState s;

        fill(t, &s);
        answer(t, request, &s);
}

void agent_talk_tell(AgentTalk *t)
{
        Moult__TransactionState s;
        Message m = MOULT__MESSAGE__INIT;

        if (!t->session || !session_is_established(t->session))
                return;
        fill(t, &s);
        m.body_case = MOULT__MESSAGE__BODY_STATE;
        m.state = &s;
        session_send(t->session, &m);
}

void agent_talk_refuse(AgentTalk *t, const Message *request, MoultError code, const char *why)
{
        g_autoptr(GError) error = g_error_new_literal(MOULT_ERROR, (gint)code, why);

        session_reply_error(t->session, request, error);
}

static gboolean is_current(const AgentTalk *t, ProtobufCBinaryData id)
{
        return t->known && id.len == sizeof t->push_id && memcmp(id.data, t->push_id, id.len) == 0;
}

static void on_offer(AgentTalk *t, const Message *m)
{
        if (is_current(t, m->offer->push_id) && (t->rollback || t->phase != P(FAILED))) {
                agent_talk_answer(t, m);
        } else if (t->ops->is_busy(t->agent)) {
                agent_talk_refuse(t, m, MOULT_ERROR_BUSY, "busy");
        } else {
                t->ops->offer(t->agent, m->offer);
                agent_talk_answer(t, m);
        }
}

static void on_rollback(AgentTalk *t, const Message *m)
{
        if (is_current(t, m->rollback->push_id)) {
                agent_talk_answer(t, m);
        } else if (t->ops->is_busy(t->agent)) {
                agent_talk_refuse(t, m, MOULT_ERROR_BUSY, "busy");
        } else {
                t->ops->roll_back(t->agent, m->rollback);
                agent_talk_answer(t, m);
        }
}

static void answer_past(AgentTalk *t, const Message *m)
{
        Moult__TransactionState s = MOULT__TRANSACTION_STATE__INIT;

        s.push_id = m->command->push_id;
        t->ops->past(t->agent, m->command->push_id.data, &s);
        answer(t, m, &s);
}

static void on_command(AgentTalk *t, const Message *m)
{
        const Moult__PushCommand *c = m->command;
        enum push_verdict verdict;

        if (!is_current(t, c->push_id)) {
                answer_past(t, m);
                return;
        }
        verdict = push_rule(t->phase, c->action);
        if (verdict == VERDICT_WRONG_STATE ||
            (verdict == VERDICT_ACT && t->dry_run && c->action == MOULT__PUSH_ACTION__PUSH_STAGE)) {
                agent_talk_refuse(t, m, MOULT_ERROR_WRONG_STATE, "not now");
                return;
        }
        if (verdict == VERDICT_ACT)
                t->ops->act(t->agent, c);
        agent_talk_answer(t, m);
}

static void on_plan_query(AgentTalk *t, const Message *m)
{
        Moult__PlanPage page = MOULT__PLAN_PAGE__INIT;
        Moult__PlanItem item = MOULT__PLAN_ITEM__INIT;
        Moult__PlanItem *items[LIMIT_PLAN_PAGE];
        Message reply = MOULT__MESSAGE__INIT;

        if (!is_current(t, m->plan_query->push_id) || t->phase < P(PLANNED)) {
                agent_talk_refuse(t, m, MOULT_ERROR_NOT_FOUND, "there is no such plan");
                return;
        }
        item.path = message_bytes("etc/a");
        item.action = MOULT__PLAN_ACTION__PLAN_REPLACE;
        page.push_id = m->plan_query->push_id;
        page.first = m->plan_query->first;
        page.total = t->ops->plan_items(t->agent);
        page.items = items;
        while (page.n_items < MIN(m->plan_query->count, LIMIT_PLAN_PAGE) &&
               page.first + page.n_items < page.total)
                items[page.n_items++] = &item;
        reply.body_case = MOULT__MESSAGE__BODY_PLAN_PAGE;
        reply.plan_page = &page;
        session_reply(t->session, m, &reply);
}

static void on_history(AgentTalk *t, const Message *m)
{
        guint n = 0, wanted = MIN(m->history_query->count, GENERATIONS);
        struct agent_generation generations[GENERATIONS];
        Moult__HistoryItem items[GENERATIONS], *pointers[GENERATIONS];
        Moult__History history = MOULT__HISTORY__INIT;
        Message reply = MOULT__MESSAGE__INIT;

        for (; n < wanted && t->ops->generation(t->agent, n, &generations[n]); n++) {
                struct agent_generation *g = &generations[n];

                moult__history_item__init(&items[n]);
                items[n].generation = g->number;
                items[n].release = message_bytes(g->release);
                items[n].manifest_digest = message_blob(g->digest, sizeof g->digest);
                items[n].phase = g->phase;
                pointers[n] = &items[n];
        }
        history.n_items = n;
        history.items = pointers;
        reply.body_case = MOULT__MESSAGE__BODY_HISTORY;
        reply.history = &history;
        session_reply(t->session, m, &reply);
}

static void on_stale_query(AgentTalk *t, const Message *m)
{
        Moult__StaleReport report = MOULT__STALE_REPORT__INIT;
        Message reply = MOULT__MESSAGE__INIT;

        if (t->ops->stale) {
                t->ops->stale(t->agent, m);
                return;
        }
        report.push_id = m->stale_query->push_id;
        report.looked_at = 3;
        reply.body_case = MOULT__MESSAGE__BODY_STALE_REPORT;
        reply.stale_report = &report;
        session_reply(t->session, m, &reply);
}

void agent_talk_message(AgentTalk *t, const Message *m)
{
        switch (m->body_case) {
        case MOULT__MESSAGE__BODY_OFFER:
                on_offer(t, m);
                break;
        case MOULT__MESSAGE__BODY_COMMAND:
                on_command(t, m);
                break;
        case MOULT__MESSAGE__BODY_ROLLBACK:
                on_rollback(t, m);
                break;
        case MOULT__MESSAGE__BODY_PLAN_QUERY:
                on_plan_query(t, m);
                break;
        case MOULT__MESSAGE__BODY_HISTORY_QUERY:
                on_history(t, m);
                break;
        case MOULT__MESSAGE__BODY_STALE_QUERY:
                on_stale_query(t, m);
                break;
        case MOULT__MESSAGE__BODY_PING:
                session_reply_ack(t->session, m);
                break;
        default:
                break;
        }
}
