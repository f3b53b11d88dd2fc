/* tests/support/session_rig.h - one session in virtual time against a peer that the test plays. */
#pragma once

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/handshake.h"
#include "proto/limits.h"
#include "proto/session.h"
#include "tests/support/memory_transport.h"

struct rig {
        MemoryTransport *wire;
        VirtualTime time;
        Session *session;
        int established, lost, closed, messages, answers, failures, parts, writable;
        int error_code;
        char *text;
        guint64 next_id;     /* of the peer's messages */
        guint64 first_asked; /* add n: the n-th message of ours */
        guint8 peer_nonce;
        const char *peer_can; /* the capability that its hello names; or NULL */
        gboolean close_in_lost, close_in_message, ask_again;
        Moult__Message__BodyCase last_message;
};

/* A session that has sent its first hello. */
void rig_init(struct rig *r, Moult__Role role);
void rig_clear(struct rig *r);
/* The next message that the session has sent, NULL if none; the caller frees it. */
Message *take(struct rig *r);
/* The next one that is no hello. */
Message *take_message(struct rig *r);
/* Takes all; how many of them were hellos. */
int take_hellos(struct rig *r);
void feed_hello(struct rig *r, guint32 version, Moult__Role role, gboolean with_echo);
void establish(struct rig *r);
/* rig_init() of a host, established. */
void standing(struct rig *r);
/* A request, counted in `answers`, `parts` and `failures`. */
guint64 ask(struct rig *r, guint timeout_ms);
void rig_on_answer(Session *s, const Message *reply, const GError *error, gpointer user);
void pass(struct rig *r, gint64 seconds);

/* A message of the peer, with the number that is due. */
#define FEED(r, body, field, type, INIT, ...)                                                                \
        do {                                                                                                 \
                Message m_ = MOULT__MESSAGE__INIT;                                                           \
                type b_ = INIT;                                                                              \
                m_.id = (r)->next_id++;                                                                      \
                m_.body_case = MOULT__MESSAGE__BODY_##body;                                                  \
                m_.field = &b_;                                                                              \
                __VA_ARGS__;                                                                                 \
                memory_transport_feed_frame((r)->wire, &m_);                                                 \
        } while (0)
#define FEED_STATE(r) FEED(r, STATE, state, Moult__TransactionState, MOULT__TRANSACTION_STATE__INIT)
#define FEED_PING(r)  FEED(r, PING, ping, Moult__Ping, MOULT__PING__INIT)
