/* proto/session_internal.h - what the files of a session share: its struct, and the ways between them.
 *
 *   session.c              life, transport events, time: when a session begins and is lost
 *   session_send.c         the way out: numbers, frames, requests
 *   session_receive.c      the way in: the three gates
 *   session_environment.c  real clock, randomness and timer
 *
 * Functions that return gboolean return FALSE when a handler of the owner has closed the session. */
#pragma once

#include "proto/frame.h"
#include "proto/handshake.h"
#include "proto/loop_hub.h"
#include "proto/requests.h"
#include "proto/session.h"

#define HELLO_INTERVAL_US   G_USEC_PER_SEC
#define REFUSED_INTERVAL_US (30 * G_USEC_PER_SEC) /* a peer of another version may be upgraded one day */

struct Session {
        int refs;             /* the owner's: the last one closes, also within one of its handlers */
        int entered;          /* calls of ours on the stack: the struct outlives them */
        Transport *transport; /* NULL: closed */
        const struct session_events *events;
        gpointer user;
        const struct session_environment *env;
        gpointer env_user;
        HubItem timer; /* of the real environment */

        Moult__Hello hello; /* what we say each time; handshake_fill() adds the rest */
        GPtrArray *hello_strings;
        GStrv peer_capabilities; /* of the last hello that established a session; or NULL */
        ProtobufCBinaryData *capabilities, *endpoints;

        FrameParser *parser;
        Handshake handshake;
        Requests *requests;
        guint64 last_sent_id, last_seen_id;
        GError *fault; /* the session is to be lost at the next tick */
        gboolean up, watch;
        gboolean held;         /* too many attempts: the next tick sends the hello, nothing else does */
        gboolean refusal_told; /* the owner knows that this peer refuses us */
        guint attempts;
        gint64 attempts_since_us, next_hello_us;
        gint64 half_frame_since_us; /* 0: none */
        gint64 last_bytes_us, waiting_since_us, ping_sent_us;
        guint64 answers; /* that we gave by ourselves; LIMIT_ANSWERS_RATE of them are forgiven each second */
        gint64 answers_us;
};

extern const struct session_environment session_real_environment;
/* `g_autoptr(SessionInUse) s = session_enter(...)` at each way in from the loop. */
typedef struct Session SessionInUse;
SessionInUse *session_enter(Session *s);
void session_leave(SessionInUse *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SessionInUse, session_leave)

gint64 session_now_us(Session *s);
/* Sets the timer to whatever is due next. After each change of the fields that it looks at. */
void session_arm(Session *s);

/* Fails what waits for an answer, tells the owner, and gets ready for the next attempt. */
gboolean session_lose(Session *s, const GError *why);
gboolean session_lose_because(Session *s, MoultError code, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* Final: `closed` and nothing after it. */
void session_finish(Session *s, const GError *why);

void session_send_hello(Session *s);
void session_keep_capabilities(Session *s, const Moult__Hello *hello);
/* Outside the numbering: hello, and the error that refuses one. */
void session_send_unnumbered(Session *s, Message *m);

/* Bytes of the transport. */
void session_receive(Session *s, const void *data, size_t len);
