/* proto/session.h - one conversation over one transport: hello with nonces, requests both ways,
 * resynchronisation.
 *
 * Bytes in, bytes out: the session owns a Transport and a FrameParser, keeps the hello state, numbers
 * requests, matches replies, and hands everything else to its owner. It is established when both hellos have
 * echoed each other's nonce; a later hello with a new nonce means that the peer began anew: the owner gets
 * `lost`, then `established` again. While not established, other messages are dropped (they belong to a
 * conversation that is over). Unknown messages are answered with Error{UNSUPPORTED}, never with silence.
 *
 * While established nothing may be missing: noise in the stream, a gap in the message numbers, a frame that
 * does not end, or more than LIMIT_SEND_QUEUE unsent bytes end the session (`lost`), and a new handshake
 * begins by itself. So what the owner is given is always whole, in order, once, and of this session.
 *
 * Thread rule: all calls from the thread whose default main context was current at session_new(). Every event
 * and every reply comes from that loop; its handler may call anything here, session_close() and
 * session_unref() too. Idle and established it has no timer. */
#pragma once

#include "proto/message.h"
#include "proto/transport.h"

/* Capabilities that a Hello may name. */
#define CAPABILITY_PMEM   "pmem"   /* knows SOURCE_PMEM and SOURCES_CHANGED with a list */
#define CAPABILITY_ZSTD   "zstd"   /* unpacks frames; the session itself names and uses it */
#define CAPABILITY_FACTS  "facts"  /* answers FactsQuery */
#define CAPABILITY_FREEZE "freeze" /* answers Freeze */

typedef struct Session Session;

struct session_hello { /* what we say of ourselves; strings are copied */
        Moult__Role role;
        const char *software, *boot_id, *hostname;
        const guint8 *tls_fingerprint;   /* 32 bytes or NULL */
        const char *join_token;          /* or NULL */
        const char *const *endpoints;    /* NULL-terminated or NULL */
        const char *const *capabilities; /* NULL-terminated or NULL */
};

struct session_events {
        void (*established)(Session *s, const Moult__Hello *peer, gpointer user);
        /* The session is over (AWAY, peer restarted, noise, queue full), or a peer was refused (version,
         * role); it may come back by itself. */
        void (*lost)(Session *s, const GError *why, gpointer user);
        /* Final; owner unrefs. Comes instead of `lost`, also when established. */
        void (*closed)(Session *s, const GError *why, gpointer user);
        void (*message)(Session *s, const Message *m,
                        gpointer user); /* requests and notices, content-gated */
        /* Room in the send queue again: after it was at LIMIT_SEND_LOW it is below. May be NULL. */
        void (*writable)(Session *s, gpointer user);
};

/* Takes over @transport. */
Session *session_new(Transport *transport, const struct session_hello *hello,
                     const struct session_events *events, gpointer user);
void session_start(Session *s);
Session *session_ref(Session *s);
void session_unref(Session *s); /* the last one closes */
/* Closes the transport at once; no event follows, and no reply: waiting requests are forgotten. */
void session_close(Session *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Session, session_unref)

gboolean session_is_established(const Session *s);
const char *session_name(const Session *s); /* "virtio-serial", "tls", "unix"; "" when closed */
const char *session_peer(const Session *s);
const guint8 *session_peer_fingerprint(const Session *s);
/* Whether the peer named this capability when the session was established (last). */
gboolean session_peer_can(const Session *s, const char *capability);
/* Bytes that the peer has not taken yet. Who sends bulk stops at LIMIT_SEND_LOW and goes on at `writable`. */
gsize session_queued(const Session *s);
/* While on, a peer that is silent for 10 s is asked (Ping), and lost if it stays silent for 10 s more. Always
 * so while requests wait. Default off: an idle session has no wake-ups. */
void session_watch(Session *s, gboolean on);

/* Sends @m (its id is assigned here; returned). Not established, or larger than a frame: dropped, 0. */
guint64 session_send(Session *s, Message *m);
/* Only @request->id is used: who answers later keeps that. An answer belongs to the session in which its
 * request came: at `lost` forget what was not answered yet. An answer that cannot be sent (too large) becomes
 * an Error. */
void session_reply(Session *s, const Message *request, Message *reply);
void session_reply_error(Session *s, const Message *request, const GError *error);
void session_reply_ack(Session *s, const Message *request);

/* Sends a request; @done runs exactly once, from the main loop: with the reply, or with an error (timeout,
 * lost, Error reply, answer of a wrong kind or refused); @reply is NULL then. Data comes in parts: @done runs
 * for each, until @reply->data->last or an error, which is the last call. @timeout_ms counts from the request
 * or the last part; 0: none. Returns a handle for session_forget(). */
typedef void (*session_reply_func)(Session *s, const Message *reply, const GError *error, gpointer user);
guint64 session_request(Session *s, Message *m, guint timeout_ms, session_reply_func done, gpointer user);
void session_forget(Session *s, guint64 request_id); /* @done will not run */

/* What the session takes from its surroundings, for deterministic tests and simulation. */
struct session_environment {
        gint64 (*now_us)(gpointer env);
        void (*random)(gpointer env, void *ret, gsize len);
        /* Call session_tick() when now_us() has reached @deadline_us; replaces the last one. G_MAXINT64:
         * never. */
        void (*arm)(gpointer env, Session *s, gint64 deadline_us);
};
/* Before session_start(). */
void session_set_environment(Session *s, const struct session_environment *ops, gpointer env);
void session_tick(Session *s);
