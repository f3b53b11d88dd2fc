/* host-service/guests/guest_session.c - one session with a guest. */
#include "host-service/guests/guest_session.h"

#include "common/error.h"
#include "host-service/guests/budget.h"
#include "host-service/guests/metered.h"

/* Messages that nobody asked for: states (an agent sends at most ten a second), refused fetches, requests. */
#define MESSAGE_RATE  100u
#define MESSAGE_BURST 1000u
/* A new handshake costs us database writes and may cost a push its connection. */
#define HANDSHAKE_TOKENS 100u

struct GuestSession {
        const struct host_env *env;
        Session *session;
        Transport *meter; /* the session's; NULL once that is closed */
        FetchServer *fetch;
        struct budget messages;
        GSource *closing; /* tells the owner from the loop, after we closed */
        GError *why;
        const struct guest_session_events *events;
        gpointer user;
};

static gboolean tell_closed(gpointer user)
{
        GuestSession *gs = user;
        g_autoptr(GError) why = g_steal_pointer(&gs->why);
        gboolean misbehaved = g_error_matches(why, MOULT_ERROR, MOULT_ERROR_REFUSED);

        host_timer_clear(&gs->closing);
        gs->events->closed(gs, why, misbehaved, gs->user);
        return G_SOURCE_REMOVE;
}

/* Ends the conversation now; the owner hears of it from the loop. REFUSED: the guest misbehaved. */
static void close_because(GuestSession *gs, MoultError code, const char *why)
{
        if (gs->closing)
                return;
        gs->why = g_error_new_literal(MOULT_ERROR, (gint)code, why);
        fetch_server_reset(gs->fetch);
        gs->meter = NULL;
        session_close(gs->session);
        gs->closing = host_timer_add(gs->env, 0, tell_closed, gs);
}

static gboolean charge(GuestSession *gs, guint tokens)
{
        if (gs->closing)
                return FALSE;
        if (budget_take(&gs->messages, tokens, host_monotonic_us(gs->env)))
                return TRUE;
        close_because(gs, MOULT_ERROR_REFUSED, "the guest sends too many messages: its session is reset");
        return FALSE;
}

static void on_established(Session *s, const Moult__Hello *peer, gpointer user)
{
        GuestSession *gs = user;

        fetch_server_reset(gs->fetch);
        if (charge(gs, HANDSHAKE_TOKENS) && !gs->events->established(gs, peer, gs->user))
                close_because(gs, MOULT_ERROR_UNTRUSTED,
                              "no VM is known by this key, and no join token fits");
}

static void on_lost(Session *s, const GError *why, gpointer user)
{
        GuestSession *gs = user;

        fetch_server_reset(gs->fetch);
        gs->events->lost(gs, gs->user);
}

static void on_closed(Session *s, const GError *why, gpointer user)
{
        GuestSession *gs = user;

        gs->meter = NULL;
        fetch_server_reset(gs->fetch);
        gs->events->closed(gs, why, metered_error_is_flood(why), gs->user);
}

static void refuse(GuestSession *gs, const Message *m)
{
        g_autoptr(GError) error =
                g_error_new(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED, "a host does not do this");

        session_reply_error(gs->session, m, error);
}

static void on_message(Session *s, const Message *m, gpointer user)
{
        GuestSession *gs = user;

        if (gs->closing)
                return;
        if (m->body_case == MOULT__MESSAGE__BODY_FETCH) {
                if (!fetch_server_request(gs->fetch, m))
                        charge(gs, 1);
                return;
        }
        if (!charge(gs, 1))
                return;
        switch (m->body_case) {
        case MOULT__MESSAGE__BODY_STATE:
                gs->events->state(gs, m->state, gs->user);
                break;
        case MOULT__MESSAGE__BODY_UPGRADE_REQUEST:
                gs->events->upgrade_request(gs, m, gs->user);
                break;
        case MOULT__MESSAGE__BODY_PING:
                session_reply_ack(gs->session, m);
                break;
        case MOULT__MESSAGE__BODY_ERROR:
        case MOULT__MESSAGE__BODY_ACK:
        case MOULT__MESSAGE__BODY_PLAN_PAGE:
        case MOULT__MESSAGE__BODY_HISTORY:
        case MOULT__MESSAGE__BODY_STALE_REPORT:
                break; /* the answer to a request that we gave up */
        default:
                refuse(gs, m);
        }
}

static void on_writable(Session *s, gpointer user)
{
        GuestSession *gs = user;

        fetch_server_writable(gs->fetch);
}

static const struct session_events events_of_session = {
        .established = on_established,
        .lost = on_lost,
        .closed = on_closed,
        .message = on_message,
        .writable = on_writable,
};

static FetchPack *find_pack(const guint8 *digest, gsize len, gpointer user)
{
        GuestSession *gs = user;

        return gs->events->find_pack(gs, digest, len, gs->user);
}

GuestSession *guest_session_new(const struct host_env *env, Transport *transport,
                                const struct session_hello *hello, const struct guest_session_events *events,
                                gpointer user)
{
        GuestSession *gs = g_new0(GuestSession, 1);

        gs->env = env;
        gs->events = events;
        gs->user = user;
        gs->messages = budget_new(MESSAGE_RATE, MESSAGE_BURST);
        gs->meter = metered_transport_new(env, transport);
        gs->session = session_new(gs->meter, hello, &events_of_session, gs);
        if (env->session)
                session_set_environment(gs->session, env->session, env->self);
        gs->fetch = fetch_server_new(env, gs->session, find_pack, gs);
        return gs;
}

void guest_session_start(GuestSession *gs)
{
        session_start(gs->session);
}

void guest_session_free(GuestSession *gs)
{
        if (!gs)
                return;
        host_timer_clear(&gs->closing);
        g_clear_error(&gs->why);
        fetch_server_free(gs->fetch);
        session_close(gs->session);
        session_unref(gs->session);
        g_free(gs);
}

void guest_session_set_events(GuestSession *gs, const struct guest_session_events *events, gpointer user)
{
        gs->events = events;
        gs->user = user;
}

Session *guest_session_get(GuestSession *gs)
{
        return gs->session;
}

void guest_session_expect(GuestSession *gs, gsize bytes)
{
        if (gs->meter)
                metered_transport_credit(gs->meter, bytes);
}
