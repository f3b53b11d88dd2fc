/* guest-agent/peers.h - who talks with us now: one Peer for each conversation, and which kinds of host
 * session stand.
 *
 * Theory of operation: what a peer may say is decided by the link that it came over (a virtio port and a
 * pinned TLS connection carry the host, the Unix socket carries commands), never by what its hello claims; a
 * hello that claims another role is refused. A peer that begins anew gets a new epoch, and an answer that was
 * worked out for the old conversation is dropped (struct ticket).
 *
 * Everything here belongs to the main thread, but for peers_stands() and peers_wait(): staging threads ask
 * with them whether a host session of some kind stands, and sleep until one does. */
#pragma once

#include <gio/gio.h>

#include "proto/session.h"

typedef struct Peers Peers;
typedef struct Peer Peer;

/* What a link wants to know of the peer that it added. */
struct peer_link {
        void (*established)(Peer *p, const Moult__Hello *hello, gpointer user); /* may be NULL */
        void (*closed)(Peer *p, const GError *why, gpointer user);              /* @p goes away after this */
};

/* What the agent wants to know of all of them. */
struct peers_events {
        void (*established)(Peer *p, const Moult__Hello *hello, gpointer user);
        void (*lost)(Peer *p, const GError *why, gpointer user);
        void (*message)(Peer *p, const Message *m, gpointer user);
        void (*writable)(Peer *p, gpointer user);
};

/* @base: what every hello says (copied). */
Peers *peers_new(const struct session_hello *base, const struct peers_events *events, gpointer user);
void peers_free(Peers *ps);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Peers, peers_free)

/* Takes over @transport and starts a session. @role: what the peer may be. @kind: SOURCE_SERIAL or SOURCE_TLS
 * for hosts.
 * @join_token may be NULL. The peer belongs to @ps. */
Peer *peers_add(Peers *ps, Transport *transport, Moult__Role role, Moult__SourceKind kind,
                const char *join_token, const struct peer_link *link, gpointer user);
/* Closes and removes; no event follows. */
void peers_remove(Peers *ps, Peer *p);
/* The main loop's context, a new reference. */
GMainContext *peers_context(Peers *ps);
unsigned peers_count(const Peers *ps, Moult__Role role);

Moult__Role peer_role(const Peer *p);
Moult__SourceKind peer_kind(const Peer *p);
Session *peer_session(const Peer *p);
gboolean peer_is_established(const Peer *p);
/* A command that follows the running operation: gets its states too. */
void peer_set_follows(Peer *p, gboolean follows);
gboolean peer_follows(const Peer *p);
/* It has asked about a freeze in this conversation: gets its states. */
void peer_set_follows_freeze(Peer *p, gboolean follows);
gboolean peer_follows_freeze(const Peer *p);
/* A state could not be sent because the peer is slow; send when writable. */
void peer_set_dirty(Peer *p, gboolean dirty);
gboolean peer_is_dirty(const Peer *p);

typedef void (*peers_func)(Peer *p, gpointer user);
/* @func for every established peer. @func may not add or remove. */
void peers_foreach(Peers *ps, peers_func func, gpointer user);

/* The established host session of this kind (SOURCE_UNSPECIFIED: the best one), or NULL. */
Peer *peers_host(Peers *ps, Moult__SourceKind kind);

/* Any thread: bit (1 << SourceKind) for each kind of host session that stands. */
unsigned peers_stands(Peers *ps);
/* Any thread: sleeps until something changes, peers_wake(), or @deadline_us (g_get_monotonic_time()). @seen
 * is what peers_change_count() gave before the caller looked, so that no change is missed. */
void peers_wait(Peers *ps, unsigned seen, gint64 deadline_us);
unsigned peers_change_count(Peers *ps);
void peers_wake(Peers *ps);

/* A request whose answer comes later. */
struct ticket {
        Peer *peer; /* a reference, or NULL */
        guint64 id;
        unsigned epoch;
};
struct ticket *ticket_new(Peer *p, const Message *request);
void ticket_free(struct ticket *t);
/* These answer if the conversation is still the same, and free the ticket. */
void ticket_reply(struct ticket *t, Message *reply);
void ticket_reply_state(struct ticket *t, Moult__TransactionState *state);
void ticket_reply_error(struct ticket *t, const GError *error);
