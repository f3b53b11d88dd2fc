/* host-service/guests/guest_session.h - one session with a guest: what it sends is counted, judged and handed
 * on.
 *
 * The gates before it (bytes, frame, content, role) are metered.c's and proto/'s; here is the last one: how
 * many messages, and which of them mean something to a host. */
#pragma once

#include "host-service/guests/fetch.h"

typedef struct GuestSession GuestSession;

struct guest_session_events {
        /* FALSE: this peer is nobody we know; the session is closed, and `closed` follows from the loop. */
        gboolean (*established)(GuestSession *gs, const Moult__Hello *peer, gpointer user);
        void (*lost)(GuestSession *gs, gpointer user);
        /* Final; free it (also from here). @misbehaved: it broke a rule that an honest agent keeps. */
        void (*closed)(GuestSession *gs, const GError *why, gboolean misbehaved, gpointer user);
        void (*state)(GuestSession *gs, const Moult__TransactionState *state, gpointer user);
        void (*upgrade_request)(GuestSession *gs, const Message *request, gpointer user);
        FetchPack *(*find_pack)(GuestSession *gs, const guint8 *digest, gsize len, gpointer user);
};

/* Takes over @transport. Call guest_session_start() next. */
GuestSession *guest_session_new(const struct host_env *env, Transport *transport,
                                const struct session_hello *hello, const struct guest_session_events *events,
                                gpointer user);
void guest_session_start(GuestSession *gs);
/* Closes; no event follows. */
void guest_session_free(GuestSession *gs);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GuestSession, guest_session_free)
/* Hands the session on to another owner. */
void guest_session_set_events(GuestSession *gs, const struct guest_session_events *events, gpointer user);
Session *guest_session_get(GuestSession *gs);
/* The guest was asked for something that may take @bytes: they do not count as a flood. */
void guest_session_expect(GuestSession *gs, gsize bytes);
