/* tests/support/fake_host.h - a host for one agent: listens where the agent's "port" is, serves one pack,
 * remembers what the agent said, and misbehaves on demand. Runs in the test's own main loop. */
#pragma once

#include "proto/session.h"

typedef struct {
        char *path; /* of the listening socket */
        int listener;
        guint source;
        Session *session;
        Moult__Role role; /* what its hello claims */

        /* The pack that it serves. */
        guint8 *pack;
        gsize pack_size;
        guint8 digest[32];

        /* Knobs. */
        gboolean silent;   /* answers no fetch */
        MoultError refuse; /* answers fetches with this error, unless UNSPECIFIED */
        int hang_up_after; /* closes the connection instead of answering the n-th fetch from now; -1: never */
        gboolean wrong_data; /* answers with data for another offset */
        guint8 tls_fingerprint[32];
        gboolean has_fingerprint;
        const char *const *endpoints;

        /* What it saw. */
        int established, lost, fetches;
        guint64 fetched_bytes;
        Message *state;  /* the newest */
        unsigned phases; /* bit for each phase that a state had */
        Message *reply;  /* to the last fake_host_ask() */
        GError *error;
        Message *request; /* the newest upgrade request */
        gboolean accept_requests;
} FakeHost;

FakeHost *fake_host_new(const char *socket_path);
void fake_host_free(FakeHost *h);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FakeHost, fake_host_free)
/* Not listening, not connected. */
void fake_host_vanish(FakeHost *h);
void fake_host_return(FakeHost *h);
void fake_host_serve_file(FakeHost *h, const char *pack_path, const guint8 digest[static 32]);

/* Sends a request and runs the loop until its answer or error is there; TRUE for an answer. */
gboolean fake_host_ask(FakeHost *h, Message *m);
gboolean fake_host_offer(FakeHost *h, const guint8 push_id[static 16], Moult__Offer *offer);
gboolean fake_host_command(FakeHost *h, const guint8 push_id[static 16], Moult__PushAction action);
/* Runs the loop until a state of this push has this phase; FALSE if another final phase came instead. */
gboolean fake_host_wait_phase(FakeHost *h, const guint8 push_id[static 16], Moult__TransactionPhase phase);
/* Runs the loop until @condition(@user). */
void fake_host_wait(gboolean (*condition)(gpointer user), gpointer user);
void fake_host_wait_established(FakeHost *h);
