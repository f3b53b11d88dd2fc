/* tests/sim/agent_talk.c - the simulated agent's session: questions, commands, answers. */
#include <string.h>

#include "guest-agent/push_rules.h"
#include "proto/limits.h"
#include "tests/sim/agent_private.h"

static void fill(const Agent *a, Moult__TransactionState *s)
{
        moult__transaction_state__init(s);
        s->push_id = message_blob(a->push_id, sizeof a->push_id);
        s->phase = a->phase;
        s->error = a->error;
        s->text = message_bytes(a->error ? "so it went" : "");
        s->bytes_total = VAULT_PACK_SIZE;
        s->bytes_done = a->bytes_done;
        s->entries_total = GUEST_FILES;
        s->entries_change = GUEST_FILES;
        s->entries_blocked = a->phase == P(REFUSED);
        s->generation = a->guest->disk->history->len;
        s->source = a->source < a->n_sources ? a->sources[a->source] : MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED;
        s->source_changes = a->source;
        s->source_wanted = a->wanted;
        s->switch_us = a->switched ? 77 : 0;
}

static void answer(Agent *a, const Message *request, Moult__TransactionState *s)
{
        Message m = MOULT__MESSAGE__INIT;

        m.body_case = MOULT__MESSAGE__BODY_STATE;
        m.state = s;
        session_reply(a->session, request, &m);
}

static void answer_current(Agent *a, const Message *request)
{
        Moult__TransactionState s;

        fill(a, &s);
        answer(a, request, &s);
}

void agent_tell(Agent *a)
{
        Moult__TransactionState s;
        Message m = MOULT__MESSAGE__INIT;

        if (!a->session || !session_is_established(a->session))
                return;
        fill(a, &s);
        m.body_case = MOULT__MESSAGE__BODY_STATE;
        m.state = &s;
        session_send(a->session, &m);
}

static gboolean is_current(const Agent *a, ProtobufCBinaryData id)
{
        return a->known && id.len == sizeof a->push_id && memcmp(id.data, a->push_id, id.len) == 0;
}

static void refuse(Agent *a, const Message *m, MoultError code)
{
        g_autoptr(GError) error = g_error_new(MOULT_ERROR, (gint)code, "not now");

        session_reply_error(a->session, m, error);
}

static void on_offer(Agent *a, const Message *m)
{
        gboolean mine = is_current(a, m->offer->push_id);

        if (mine && (a->rollback || a->phase != P(FAILED))) {
                answer_current(a, m);
        } else if (!agent_is_idle(a)) {
                refuse(a, m, MOULT_ERROR_BUSY);
        } else {
                agent_offer(a, m->offer);
                answer_current(a, m);
        }
}

static void on_rollback(Agent *a, const Message *m)
{
        if (is_current(a, m->rollback->push_id)) {
                answer_current(a, m);
        } else if (!agent_is_idle(a)) {
                refuse(a, m, MOULT_ERROR_BUSY);
        } else {
                agent_begin_rollback(a, m->rollback->push_id.data);
                answer_current(a, m);
        }
}

static void answer_past(Agent *a, const Message *m)
{
        const struct generation *g = guest_disk_find(a->guest->disk, m->command->push_id.data);
        Moult__TransactionState s = MOULT__TRANSACTION_STATE__INIT;

        s.push_id = m->command->push_id;
        if (g) {
                s.phase = g->phase;
                s.error = g->error;
                s.generation = g->number;
        }
        answer(a, m, &s);
}

static void on_command(Agent *a, const Message *m)
{
        const Moult__PushCommand *c = m->command;
        enum push_verdict verdict;

        if (!is_current(a, c->push_id)) {
                answer_past(a, m);
                return;
        }
        verdict = push_rule(a->phase, c->action);
        if (verdict == VERDICT_WRONG_STATE ||
            (verdict == VERDICT_ACT && a->dry_run && c->action == MOULT__PUSH_ACTION__PUSH_STAGE)) {
                refuse(a, m, MOULT_ERROR_WRONG_STATE);
                return;
        }
        if (verdict == VERDICT_ACT && !a->aborting)
                agent_act(a, c);
        answer_current(a, m);
}

static void on_plan_query(Agent *a, const Message *m)
{
        Moult__PlanPage page = MOULT__PLAN_PAGE__INIT;
        Moult__PlanItem item = MOULT__PLAN_ITEM__INIT;
        Moult__PlanItem *items[GUEST_FILES];
        Message reply = MOULT__MESSAGE__INIT;

        if (!is_current(a, m->plan_query->push_id) || a->phase < P(PLANNED)) {
                refuse(a, m, MOULT_ERROR_NOT_FOUND);
                return;
        }
        item.path = message_bytes("etc/a");
        item.action = MOULT__PLAN_ACTION__PLAN_REPLACE;
        page.push_id = m->plan_query->push_id;
        page.first = m->plan_query->first;
        page.total = GUEST_FILES;
        page.items = items;
        while (page.n_items < m->plan_query->count && page.first + page.n_items < page.total)
                items[page.n_items++] = &item;
        reply.body_case = MOULT__MESSAGE__BODY_PLAN_PAGE;
        reply.plan_page = &page;
        session_reply(a->session, m, &reply);
}

static void on_history(Agent *a, const Message *m)
{
        const GArray *all = a->guest->disk->history;
        guint n = MIN(all->len, MIN(m->history_query->count, 16));
        g_autofree Moult__HistoryItem *items = g_new(Moult__HistoryItem, n + 1);
        g_autofree Moult__HistoryItem **pointers = g_new(Moult__HistoryItem *, n + 1);
        guint8 digests[16][DIGEST_SIZE];
        char releases[16][32];
        Moult__History history = MOULT__HISTORY__INIT;
        Message reply = MOULT__MESSAGE__INIT;

        for (guint i = 0; i < n; i++) {
                const struct generation *g = &g_array_index(all, struct generation, all->len - 1 - i);

                moult__history_item__init(&items[i]);
                g_snprintf(releases[i], sizeof releases[i], "demo %s", vault_version(g->release));
                vault_digest(g->release, digests[i]);
                items[i].generation = g->number;
                items[i].release = message_bytes(releases[i]);
                items[i].manifest_digest = message_blob(digests[i], DIGEST_SIZE);
                items[i].phase = g->phase;
                pointers[i] = &items[i];
        }
        history.n_items = n;
        history.items = pointers;
        reply.body_case = MOULT__MESSAGE__BODY_HISTORY;
        reply.history = &history;
        session_reply(a->session, m, &reply);
}

static void on_stale_query(Agent *a, const Message *m)
{
        Moult__StaleReport report = MOULT__STALE_REPORT__INIT;
        Message reply = MOULT__MESSAGE__INIT;

        report.push_id = m->stale_query->push_id;
        report.looked_at = 3;
        reply.body_case = MOULT__MESSAGE__BODY_STALE_REPORT;
        reply.stale_report = &report;
        session_reply(a->session, m, &reply);
}

static void on_message(Session *s, const Message *m, gpointer user)
{
        Agent *a = user;

        switch (m->body_case) {
        case MOULT__MESSAGE__BODY_OFFER:
                on_offer(a, m);
                break;
        case MOULT__MESSAGE__BODY_COMMAND:
                on_command(a, m);
                break;
        case MOULT__MESSAGE__BODY_ROLLBACK:
                on_rollback(a, m);
                break;
        case MOULT__MESSAGE__BODY_PLAN_QUERY:
                on_plan_query(a, m);
                break;
        case MOULT__MESSAGE__BODY_HISTORY_QUERY:
                on_history(a, m);
                break;
        case MOULT__MESSAGE__BODY_STALE_QUERY:
                on_stale_query(a, m);
                break;
        case MOULT__MESSAGE__BODY_PING:
                session_reply_ack(a->session, m);
                break;
        default:
                break;
        }
}

static void on_established(Session *s, const Moult__Hello *peer, gpointer user)
{
        Agent *a = user;

        world_trace(a->guest->w, "%s agent has a session", a->guest->vm);
        if (a->phase == P(STAGING) && !a->working)
                agent_stage_more(a);
}

static void on_lost(Session *s, const GError *why, gpointer user)
{
        agent_stage_lost(user);
}

static void on_closed(Session *s, const GError *why, gpointer user)
{
        Agent *a = user;

        agent_stage_lost(a);
        g_clear_pointer(&a->session, session_unref);
}

static const struct session_events events = {
        .established = on_established,
        .lost = on_lost,
        .closed = on_closed,
        .message = on_message,
};

Agent *agent_new(const struct agent_guest *guest, Transport *port)
{
        Agent *a = g_new0(Agent, 1);
        struct session_hello hello = {
                .role = MOULT__ROLE__ROLE_AGENT,
                .software = "sim-agent 1",
                .boot_id = guest->boot_id,
                .hostname = guest->vm,
        };

        a->guest = guest;
        a->session = session_new(port, &hello, &events, a);
        session_set_environment(a->session, &world_session_environment, guest->w);
        session_start(a->session);
        agent_recover(a);
        return a;
}

void agent_free(Agent *a)
{
        if (!a)
                return;
        world_forget(a->guest->w, a);
        world_forget(a->guest->w, &a->timer);
        if (a->session) {
                agent_stage_lost(a);
                session_close(a->session);
                session_unref(a->session);
        }
        g_free(a);
}
