/* guest-agent/methods.c - the dispatch table. */
#include "guest-agent/methods.h"

#include "common/error.h"
#include "common/events.h"
#include "guest-agent/push_state.h"
#include "proto/limits.h"

/* The host answers a request from what it has at hand. */
#define UPGRADE_REQUEST_TIMEOUT_MS 60000u

#define HOST    (1u << MOULT__ROLE__ROLE_HOST)
#define COMMAND (1u << MOULT__ROLE__ROLE_COMMAND)

struct method {
        Moult__Message__BodyCase body;
        const char *name;
        unsigned roles;
        gboolean while_stopping;
        void (*act)(const struct methods *x, Peer *p, const Message *m);
};

static void act_offer(const struct methods *x, Peer *p, const Message *m)
{
        pushes_offer(x->pushes, ticket_new(p, m), m->offer);
}

static void act_command(const struct methods *x, Peer *p, const Message *m)
{
        pushes_command(x->pushes, ticket_new(p, m), m->command);
}

static void act_plan_query(const struct methods *x, Peer *p, const Message *m)
{
        pushes_plan_page(x->pushes, ticket_new(p, m), m->plan_query);
}

static void act_history_query(const struct methods *x, Peer *p, const Message *m)
{
        pushes_history(x->pushes, ticket_new(p, m), m->history_query->count);
}

static void act_stale_query(const struct methods *x, Peer *p, const Message *m)
{
        pushes_stale(x->pushes, ticket_new(p, m), m->stale_query);
}

static void act_tree(const struct methods *x, Peer *p, const Message *m)
{
        look_answers_reply(x->tree, ticket_new(p, m), m, MOULT__TRANSACTION_PHASE__PHASE_NONE);
}

static void act_facts(const struct methods *x, Peer *p, const Message *m)
{
        Moult__TransactionState *s = pushes_state(x->pushes);

        look_answers_reply(x->facts, ticket_new(p, m), m,
                           s ? s->phase : MOULT__TRANSACTION_PHASE__PHASE_NONE);
        push_state_free(s);
}

/* NULL if @p may ask this of a freeze now. */
static const char *freeze_refusal(const struct methods *x, const Peer *p, Moult__FreezeAction action,
                                  MoultError *ret_code)
{
        gboolean begins = action == MOULT__FREEZE_ACTION__FREEZE_BEGIN;

        *ret_code = MOULT_ERROR_WRONG_STATE;
        if ((begins || action == MOULT__FREEZE_ACTION__FREEZE_RENEW) &&
            peer_role(p) != MOULT__ROLE__ROLE_HOST)
                return "only the host begins a freeze or prolongs it";
        *ret_code = MOULT_ERROR_BUSY;
        return begins && (x->stopping || x->opening) ? "the agent is starting or stopping: ask again" : NULL;
}

static void act_freeze(const struct methods *x, Peer *p, const Message *m)
{
        MoultError code;
        const char *why = freeze_refusal(x, p, m->freeze->action, &code);
        g_autoptr(GError) error = NULL;

        if (!why) {
                freezes_request(x->freezes, ticket_new(p, m), m->freeze);
                return;
        }
        error = g_error_new_literal(MOULT_ERROR, (int)code, why);
        session_reply_error(peer_session(p), m, error);
}

static void act_rollback(const struct methods *x, Peer *p, const Message *m)
{
        if (peer_role(p) == MOULT__ROLE__ROLE_COMMAND)
                peer_set_follows(p, TRUE);
        pushes_rollback(x->pushes, ticket_new(p, m), m->rollback);
}

/* One session in a Status. */
struct naming {
        ProtobufCBinaryData *names;
        size_t n;
};

static void add_name(Peer *p, gpointer user)
{
        struct naming *naming = user;

        if (peer_role(p) == MOULT__ROLE__ROLE_HOST && naming->n < LIMIT_SESSIONS)
                naming->names[naming->n++] = message_bytes(session_name(peer_session(p)));
}

static void act_status_query(const struct methods *x, Peer *p, const Message *m)
{
        ProtobufCBinaryData names[LIMIT_SESSIONS];
        struct naming naming = {names, 0};
        Moult__Status status = MOULT__STATUS__INIT;

        peers_foreach(x->peers, add_name, &naming);
        status.software = message_bytes(x->software);
        status.boot_id = message_bytes(x->boot_id);
        status.sessions = (guint32)naming.n;
        status.n_session_names = naming.n;
        status.session_names = names;
        status.uptime_s = (guint64)((g_get_monotonic_time() - x->started_us) / G_USEC_PER_SEC);
        pushes_status(x->pushes, ticket_new(p, m), &status);
}

static void on_host_answer(Session *s, const Message *reply, const GError *error, gpointer user)
{
        struct ticket *ticket = user;
        Message m = MOULT__MESSAGE__INIT;
        Moult__Ack ack = MOULT__ACK__INIT;

        if (error) {
                ticket_reply_error(ticket, error);
                return;
        }
        m.body_case = MOULT__MESSAGE__BODY_ACK;
        m.ack = &ack;
        ticket_reply(ticket, &m);
}

/* U1: the guest names files, the host builds the list. */
static void act_upgrade_request(const struct methods *x, Peer *p, const Message *m)
{
        Peer *host = peers_host(x->peers, MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED);
        Message forward = MOULT__MESSAGE__INIT;

        if (!host) {
                g_autoptr(GError) error = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                                                              "the host is not connected, so it cannot be "
                                                              "asked; moult-agent status shows the links");
                session_reply_error(peer_session(p), m, error);
                return;
        }
        forward.body_case = MOULT__MESSAGE__BODY_UPGRADE_REQUEST;
        forward.upgrade_request = m->upgrade_request;
        event_log(EVENT_INFO, "agent-upgrade-requested", "asking the host for an upgrade", "over",
                  session_name(peer_session(host)), NULL);
        session_request(peer_session(host), &forward, UPGRADE_REQUEST_TIMEOUT_MS, on_host_answer,
                        ticket_new(p, m));
}

#define BODY(x) MOULT__MESSAGE__BODY_##x
static const struct method methods_table[] = {
        {BODY(OFFER), "offer", HOST, FALSE, act_offer},
        {BODY(COMMAND), "command", HOST, FALSE, act_command},
        {BODY(PLAN_QUERY), "plan-query", HOST, TRUE, act_plan_query},
        {BODY(HISTORY_QUERY), "history-query", HOST | COMMAND, TRUE, act_history_query},
        {BODY(ROLLBACK), "rollback", HOST | COMMAND, FALSE, act_rollback},
        {BODY(STALE_QUERY), "stale-query", HOST | COMMAND, FALSE, act_stale_query},
        {BODY(TREE_QUERY), "tree-query", HOST, FALSE, act_tree},
        {BODY(TREE_READ), "tree-read", HOST, FALSE, act_tree},
        {BODY(FACTS_QUERY), "facts-query", HOST, TRUE, act_facts},
        {BODY(FREEZE), "freeze", HOST | COMMAND, TRUE, act_freeze},
        {BODY(STATUS_QUERY), "status-query", HOST | COMMAND, TRUE, act_status_query},
        {BODY(UPGRADE_REQUEST), "upgrade-request", COMMAND, FALSE, act_upgrade_request},
};

static const struct method *method_find(Moult__Message__BodyCase body)
{
        for (size_t i = 0; i < G_N_ELEMENTS(methods_table); i++)
                if (methods_table[i].body == body)
                        return &methods_table[i];
        return NULL;
}

/* NULL with *@ret_code untouched if @p may ask this now. */
static const char *refusal(const struct methods *x, const struct method *method, const Peer *p,
                           MoultError *ret_code)
{
        *ret_code = MOULT_ERROR_UNSUPPORTED;
        if (!method)
                return "this message is not one that the agent answers";
        *ret_code = MOULT_ERROR_WRONG_STATE;
        if (!(method->roles & (1u << peer_role(p))))
                return "a peer of this role may not ask this";
        *ret_code = MOULT_ERROR_BUSY;
        if (x->stopping && !method->while_stopping)
                return "the agent is stopping: ask again when it is back";
        if (x->opening && method->body != BODY(FREEZE))
                return "the agent starts, and waits for file systems that are frozen: ask again when they "
                       "are not";
        return NULL;
}

void methods_dispatch(const struct methods *x, Peer *p, const Message *m)
{
        const struct method *method = method_find(m->body_case);
        MoultError code;
        const char *why;

        if (m->body_case == BODY(ERROR) || m->body_case == BODY(ACK) || m->reply_to != 0)
                return;
        why = refusal(x, method, p, &code);
        if (why) {
                g_autoptr(GError) error = g_error_new_literal(MOULT_ERROR, (int)code, why);

                event_log(EVENT_NOTICE, "agent-message-refused", why, "from", session_name(peer_session(p)),
                          "message", method ? method->name : "other", NULL);
                session_reply_error(peer_session(p), m, error);
                return;
        }
        method->act(x, p, m);
}
