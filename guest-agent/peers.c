/* guest-agent/peers.c - sessions with their roles; a condition variable for those who wait for a host. */
#include "guest-agent/peers.h"

#include "common/error.h"
#include "common/events.h"

struct Peer {
        Peers *set; /* NULL once removed */
        Session *session;
        Moult__Role role;
        Moult__SourceKind kind;
        struct peer_link link;
        gpointer link_user;
        unsigned epoch; /* grows when a conversation ends */
        gboolean established, follows, follows_freeze, dirty;
};

struct Peers {
        GPtrArray *all; /* Peer, referenced */
        struct session_hello base;
        struct peers_events events;
        gpointer user;
        GMainContext *context;

        GMutex lock; /* of the two below; no other lock is taken under it */
        unsigned stands, changes;
        GCond changed;
};

static void peer_clear(gpointer data)
{
        Peer *p = data;

        g_clear_pointer(&p->session, session_unref);
}

static void peer_unref(gpointer p)
{
        g_rc_box_release_full(p, peer_clear);
}

static void publish(Peers *ps)
{
        unsigned stands = 0;

        for (guint i = 0; i < ps->all->len; i++) {
                const Peer *p = ps->all->pdata[i];

                if (p->established && p->role == MOULT__ROLE__ROLE_HOST)
                        stands |= 1u << p->kind;
        }
        g_mutex_lock(&ps->lock);
        ps->stands = stands;
        ps->changes++;
        g_cond_broadcast(&ps->changed);
        g_mutex_unlock(&ps->lock);
}

static void peer_end_conversation(Peer *p)
{
        p->epoch++;
        p->established = p->follows = p->follows_freeze = p->dirty = FALSE;
        publish(p->set);
}

static void on_established(Session *s, const Moult__Hello *hello, gpointer user)
{
        Peer *p = user;

        if (hello->role != p->role) {
                event_log(EVENT_WARNING, "agent-peer-refused",
                          "a peer claims a role that its link does not carry; it is not listened to", "link",
                          session_name(s), "peer", session_peer(s), NULL);
                return;
        }
        p->established = TRUE;
        publish(p->set);
        if (p->link.established)
                p->link.established(p, hello, p->link_user);
        if (p->set)
                p->set->events.established(p, hello, p->set->user);
}

static void on_lost(Session *s, const GError *why, gpointer user)
{
        Peer *p = user;
        gboolean stood = p->established;

        peer_end_conversation(p);
        if (stood)
                p->set->events.lost(p, why, p->set->user);
}

static void on_closed(Session *s, const GError *why, gpointer user)
{
        Peer *p = g_rc_box_acquire(user);

        on_lost(s, why, p);
        p->link.closed(p, why, p->link_user);
        if (p->set)
                peers_remove(p->set, p);
        peer_unref(p);
}

static void on_message(Session *s, const Message *m, gpointer user)
{
        Peer *p = user;

        if (p->established) {
                p->set->events.message(p, m, p->set->user);
                return;
        }
        if (m->body_case == MOULT__MESSAGE__BODY_ERROR)
                return; /* an error is never answered: two sides could go on for ever */
        g_autoptr(GError) error =
                g_error_new_literal(MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                                    "this link does not carry the role that your hello claims");
        session_reply_error(s, m, error);
}

static void on_writable(Session *s, gpointer user)
{
        Peer *p = user;

        if (p->established)
                p->set->events.writable(p, p->set->user);
}

static const struct session_events session_events = {on_established, on_lost, on_closed, on_message,
                                                     on_writable};

Peers *peers_new(const struct session_hello *base, const struct peers_events *events, gpointer user)
{
        Peers *ps = g_new0(Peers, 1);

        ps->all = g_ptr_array_new_with_free_func(peer_unref);
        ps->base = *base;
        ps->events = *events;
        ps->user = user;
        ps->context = g_main_context_ref_thread_default();
        g_mutex_init(&ps->lock);
        g_cond_init(&ps->changed);
        return ps;
}

void peers_free(Peers *ps)
{
        if (!ps)
                return;
        while (ps->all->len > 0)
                peers_remove(ps, ps->all->pdata[ps->all->len - 1]);
        g_ptr_array_unref(ps->all);
        g_main_context_unref(ps->context);
        g_mutex_clear(&ps->lock);
        g_cond_clear(&ps->changed);
        g_free(ps);
}

Peer *peers_add(Peers *ps, Transport *transport, Moult__Role role, Moult__SourceKind kind,
                const char *join_token, const struct peer_link *link, gpointer user)
{
        struct session_hello hello = ps->base;
        Peer *p = g_rc_box_new0(Peer);

        *p = (Peer){.set = ps, .role = role, .kind = kind, .link = *link, .link_user = user};
        hello.join_token = join_token;
        p->session = session_new(transport, &hello, &session_events, p);
        g_ptr_array_add(ps->all, p);
        session_start(p->session);
        return p;
}

void peers_remove(Peers *ps, Peer *p)
{
        g_rc_box_acquire(p);
        session_close(p->session);
        p->epoch++;
        p->established = FALSE;
        p->set = NULL;
        g_ptr_array_remove(ps->all, p);
        publish(ps);
        peer_unref(p);
}

GMainContext *peers_context(Peers *ps)
{
        return g_main_context_ref(ps->context);
}

unsigned peers_count(const Peers *ps, Moult__Role role)
{
        unsigned n = 0;

        for (guint i = 0; i < ps->all->len; i++)
                n += ((const Peer *)ps->all->pdata[i])->role == role;
        return n;
}

Moult__Role peer_role(const Peer *p)
{
        return p->role;
}

Moult__SourceKind peer_kind(const Peer *p)
{
        return p->kind;
}

Session *peer_session(const Peer *p)
{
        return p->session;
}

gboolean peer_is_established(const Peer *p)
{
        return p->established;
}

void peer_set_follows(Peer *p, gboolean follows)
{
        p->follows = follows;
}

void peer_set_follows_freeze(Peer *p, gboolean follows)
{
        p->follows_freeze = follows;
}

gboolean peer_follows_freeze(const Peer *p)
{
        return p->follows_freeze;
}

gboolean peer_follows(const Peer *p)
{
        return p->follows;
}

void peer_set_dirty(Peer *p, gboolean dirty)
{
        p->dirty = dirty;
}

gboolean peer_is_dirty(const Peer *p)
{
        return p->dirty;
}

void peers_foreach(Peers *ps, peers_func func, gpointer user)
{
        for (guint i = 0; i < ps->all->len; i++)
                if (((Peer *)ps->all->pdata[i])->established)
                        func(ps->all->pdata[i], user);
}

Peer *peers_host(Peers *ps, Moult__SourceKind kind)
{
        Peer *best = NULL;

        for (guint i = 0; i < ps->all->len; i++) {
                Peer *p = ps->all->pdata[i];

                if (!p->established || p->role != MOULT__ROLE__ROLE_HOST)
                        continue;
                if (kind != MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED && p->kind != kind)
                        continue;
                /* The port needs no network to be in order: it is the better one to ask over. */
                if (!best || p->kind == MOULT__SOURCE_KIND__SOURCE_SERIAL)
                        best = p;
        }
        return best;
}

unsigned peers_stands(Peers *ps)
{
        g_mutex_lock(&ps->lock);
        unsigned stands = ps->stands;
        g_mutex_unlock(&ps->lock);
        return stands;
}

unsigned peers_change_count(Peers *ps)
{
        g_mutex_lock(&ps->lock);
        unsigned changes = ps->changes;
        g_mutex_unlock(&ps->lock);
        return changes;
}

void peers_wait(Peers *ps, unsigned seen, gint64 deadline_us)
{
        g_mutex_lock(&ps->lock);
        while (ps->changes == seen)
                if (!g_cond_wait_until(&ps->changed, &ps->lock, deadline_us))
                        break;
        g_mutex_unlock(&ps->lock);
}

void peers_wake(Peers *ps)
{
        g_mutex_lock(&ps->lock);
        ps->changes++;
        g_cond_broadcast(&ps->changed);
        g_mutex_unlock(&ps->lock);
}

struct ticket *ticket_new(Peer *p, const Message *request)
{
        struct ticket *t = g_new(struct ticket, 1);

        *t = (struct ticket){g_rc_box_acquire(p), request->id, p->epoch};
        return t;
}

void ticket_free(struct ticket *t)
{
        if (!t)
                return;
        peer_unref(t->peer);
        g_free(t);
}

static gboolean ticket_is_valid(const struct ticket *t)
{
        return t->peer->established && t->peer->epoch == t->epoch;
}

void ticket_reply(struct ticket *t, Message *reply)
{
        Message request = MOULT__MESSAGE__INIT;

        request.id = t->id;
        if (ticket_is_valid(t))
                session_reply(t->peer->session, &request, reply);
        ticket_free(t);
}

void ticket_reply_state(struct ticket *t, Moult__TransactionState *state)
{
        Message m = MOULT__MESSAGE__INIT;

        m.body_case = MOULT__MESSAGE__BODY_STATE;
        m.state = state;
        ticket_reply(t, &m);
}

void ticket_reply_error(struct ticket *t, const GError *error)
{
        Message request = MOULT__MESSAGE__INIT;

        request.id = t->id;
        if (ticket_is_valid(t))
                session_reply_error(t->peer->session, &request, error);
        ticket_free(t);
}
