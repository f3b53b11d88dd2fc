/* proto/transport.h - byte streams behind one operations table.
 *
 * A transport is a non-blocking byte stream on a GMainContext (the thread's default one when it is made).
 * Above it stands a Session (proto/session.h), which never asks what it runs over. Three kinds: a descriptor
 * (virtio port, Unix socket, socketpair), TLS 1.3 over a socket, and what tests make up. "No peer" is a
 * state, not an end: a virtio port whose other side is closed reads 0 bytes; it is then looked at again by a
 * timer, never polled in a loop.
 *
 * Every event comes from the loop, and its handler may call any function here, transport_free() too. */
#pragma once

#include <gio/gio.h>

typedef struct Transport Transport;

typedef enum {
        TRANSPORT_UP,     /* bytes can flow: (re)start the handshake */
        TRANSPORT_AWAY,   /* no peer now; may come back by itself (virtio port); queued bytes are gone */
        TRANSPORT_CLOSED, /* over: free it; error says why */
} TransportStatus;

struct transport_events {
        void (*bytes)(gpointer user, const void *data, size_t len);
        void (*writable)(gpointer user); /* the send queue has fallen below its low mark, LIMIT_SEND_LOW */
        void (*status)(gpointer user, TransportStatus status,
                       const GError *error); /* error: AWAY and CLOSED */
};

struct transport_ops {
        const char *name;                          /* "virtio-serial", "tls", "unix" */
        void (*start)(Transport *t);               /* watch; first status event comes from the loop */
        void (*send)(Transport *t, GBytes *frame); /* queues (a reference); never blocks, never fails here;
                                                      dropped unless UP */
        gsize (*queued)(Transport *t);             /* bytes that the peer has not taken yet */
        const char *(*peer)(Transport *t);         /* for messages: path, address; owned by t */
        const guint8 *(*peer_fingerprint)(
                Transport *t); /* TLS: SHA-256 of the peer's public key; NULL else */
        const char *(*instance_name)(
                Transport *t);      /* where one table serves several names; NULL: ops->name */
        void (*free)(Transport *t); /* closes at once */
        gboolean near;              /* bytes go through this machine's memory, no network */
};

struct Transport {
        const struct transport_ops *ops;
        const struct transport_events *events;
        gpointer user;
};

void transport_set_events(Transport *t, const struct transport_events *events, gpointer user);
void transport_start(Transport *t);
void transport_send(Transport *t, GBytes *frame);
gsize transport_queued(Transport *t);
const char *transport_name(Transport *t);
void transport_free(Transport *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Transport, transport_free)
