/* proto/handshake.h - the hello state machine: pure, decides what a received hello means and what to answer.
 *
 * Each side has a nonce for each attempt at a session and names the peer's nonce (`echo`) in every hello once
 * it has seen it. The session stands for a side when a hello echoes its nonce: then the peer is alive *now*,
 * and since the stream keeps order, whatever follows that hello belongs to this session and nothing before it
 * does. `settled` in a hello says that the sender's session stands. Only unsettled hellos are answered by one
 * who is established, and a settled one never is, so two sides cannot answer each other for ever; while a
 * side is not established it repeats its hello, so any loss heals. docs/protocol.md has the table and the
 * races. */
#pragma once

#include <glib.h>

#include "proto/message.h"

#define HANDSHAKE_NONCE_SIZE 16u
#define PROTOCOL_VERSION_MIN 1u
#define PROTOCOL_VERSION_MAX 1u

typedef struct {
        Moult__Role role;                   /* ours */
        guint8 nonce[HANDSHAKE_NONCE_SIZE]; /* ours, of this attempt */
        guint8 peer_nonce[HANDSHAKE_NONCE_SIZE];
        gboolean peer_known, established;
        gboolean echo_sent;    /* a hello with this peer's nonce has gone out in this attempt */
        gboolean refused;      /* peer_nonce is of a peer that cannot be talked to */
        guint32 version;       /* agreed on; while established */
        Moult__Role peer_role; /* while established */
} Handshake;

enum handshake_verdict {
        HANDSHAKE_IGNORE,      /* nothing to do */
        HANDSHAKE_ANSWER,      /* send our hello */
        HANDSHAKE_ESTABLISHED, /* the session stands now; *ret_answer: send our hello first */
        HANDSHAKE_PEER_ANEW,   /* an established session is over: begin a new attempt, then judge this hello
                                  again */
        HANDSHAKE_REFUSED,     /* cannot talk to this peer; *ret_why; *ret_answer: it is the first time */
};

void handshake_init(Handshake *h, Moult__Role role);
/* Begins a new attempt with this nonce. */
void handshake_begin(Handshake *h, const guint8 nonce[static HANDSHAKE_NONCE_SIZE]);
enum handshake_verdict handshake_receive(Handshake *h, const Moult__Hello *hello, gboolean *ret_answer,
                                         const char **ret_why);
/* The number before that of the first message that the owner of @nonce sends in the session: its first 6
 * bytes, little-endian. A nonce serves for one session only, so a frame of another one that turns up late (or
 * lies in some file's content) does not have the number that is due. */
guint64 handshake_first_number(const guint8 nonce[static HANDSHAKE_NONCE_SIZE]);
/* Fills in nonce, echo, settled, versions and role of a hello that is sent now; points into @h. */
void handshake_fill(Handshake *h, Moult__Hello *ret);
