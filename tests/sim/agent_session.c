/* tests/sim/agent_session.c - the simulated agent's session, and what it says there. */
#include "tests/sim/agent_private.h"

static void fill(gpointer user, Moult__TransactionState *s)
{
        const Agent *a = user;
        const struct generation *g = guest_disk_find(a->guest->disk, a->talk.push_id);

        s->bytes_total = VAULT_PACK_SIZE;
        s->bytes_done = a->bytes_done;
        s->entries_total = GUEST_FILES;
        s->entries_change = GUEST_FILES;
        s->entries_blocked = a->talk.phase == P(REFUSED);
        s->generation = g ? g->number : 0;
        s->source = a->source < a->n_sources ? a->sources[a->source] : MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED;
        s->source_changes = a->source;
        s->source_wanted = a->wanted;
        s->switch_us = a->switched ? 77 : 0;
}

static gboolean is_busy(gpointer user)
{
        return !agent_is_idle(user);
}

static void offer(gpointer user, const Moult__Offer *o)
{
        agent_offer(user, o);
}

static void roll_back(gpointer user, const Moult__RollbackGeneration *r)
{
        agent_begin_rollback(user, r->push_id.data, r->generation, r->of_push.len ? r->of_push.data : NULL);
}

static void act(gpointer user, const Moult__PushCommand *c)
{
        agent_act(user, c);
}

static gboolean past(gpointer user, const guint8 *push_id, Moult__TransactionState *s)
{
        const Agent *a = user;
        const struct generation *g = guest_disk_find(a->guest->disk, push_id);

        if (!g)
                return FALSE;
        s->phase = g->phase;
        s->was_committed = g->was_committed && g->phase == P(ROLLED_BACK) &&
                           memcmp(g->push_id, push_id, sizeof g->push_id) == 0;
        s->error = g->error;
        s->generation = g->number;
        return TRUE;
}

static guint plan_items(gpointer user)
{
        return GUEST_FILES;
}

static gboolean generation(gpointer user, guint back, struct agent_generation *ret)
{
        const Agent *a = user;
        const GArray *all = a->guest->disk->history;
        const struct generation *g;

        if (back >= all->len)
                return FALSE;
        g = &g_array_index(all, struct generation, all->len - 1 - back);
        ret->number = g->number;
        g_snprintf(ret->release, sizeof ret->release, "demo %s", vault_version(g->release));
        vault_digest(g->release, ret->digest);
        ret->phase = g->phase;
        return TRUE;
}

static const struct agent_talk_ops talk_ops = {
        .is_busy = is_busy,
        .offer = offer,
        .roll_back = roll_back,
        .act = act,
        .fill = fill,
        .past = past,
        .plan_items = plan_items,
        .generation = generation,
};

static void on_message(Session *s, const Message *m, gpointer user)
{
        Agent *a = user;

        agent_talk_message(&a->talk, m);
}

static void on_established(Session *s, const Moult__Hello *peer, gpointer user)
{
        Agent *a = user;

        world_trace(a->guest->w, "%s agent has a session", a->guest->vm);
        if (a->talk.phase == P(STAGING) && !a->working)
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
        g_clear_pointer(&a->talk.session, session_unref);
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
        a->talk.ops = &talk_ops;
        a->talk.agent = a;
        a->talk.session = session_new(port, &hello, &events, a);
        session_set_environment(a->talk.session, &world_session_environment, guest->w);
        session_start(a->talk.session);
        agent_recover(a);
        return a;
}

void agent_free(Agent *a)
{
        if (!a)
                return;
        world_forget(a->guest->w, a);
        world_forget(a->guest->w, &a->timer);
        agent_stage_lost(a);
        agent_talk_close(&a->talk);
        g_free(a);
}
