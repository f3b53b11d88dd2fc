/* host-service/push/push_talk.c - what a push says to its guest. */
#include "host-service/push/push_talk.h"

#include <string.h>

#include "host-service/catalogue/push_options.h"
#include "proto/limits.h"

/* A stuck agent is noticed by the owner's clock; this only frees the slot. */
#define ANSWER_TIMEOUT_MS 30000u

struct PushTalk {
        push_talk_func answered;
        gpointer user;
        Session *session;
        guint64 request; /* whose answer is awaited; 0: none */
};

PushTalk *push_talk_new(push_talk_func answered, gpointer user)
{
        PushTalk *t = g_new0(PushTalk, 1);

        t->answered = answered;
        t->user = user;
        return t;
}

static void forget(PushTalk *t)
{
        if (t->request && t->session)
                session_forget(t->session, t->request);
        t->request = 0;
}

void push_talk_free(PushTalk *t)
{
        if (!t)
                return;
        push_talk_set_session(t, NULL);
        g_free(t);
}

void push_talk_set_session(PushTalk *t, Session *s)
{
        if (s == t->session)
                return;
        forget(t);
        g_clear_pointer(&t->session, session_unref);
        t->session = s ? session_ref(s) : NULL;
}

Session *push_talk_session(const PushTalk *t)
{
        return t->session;
}

static void on_answer(Session *s, const Message *reply, const GError *error, gpointer user)
{
        PushTalk *t = user;

        t->request = 0;
        if (reply && reply->body_case == MOULT__MESSAGE__BODY_STATE)
                t->answered(reply->state, NULL, t->user);
        else if (error && session_is_established(s) &&
                 !g_error_matches(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT))
                t->answered(NULL, error, t->user);
}

static void say(PushTalk *t, Message *m)
{
        forget(t);
        if (t->session && session_is_established(t->session))
                t->request = session_request(t->session, m, ANSWER_TIMEOUT_MS, on_answer, t);
}

void push_talk_offer(PushTalk *t, const PushRecord *r, const ReleaseRecord *release,
                     const Moult__SourceKind *sources, gsize n_sources)
{
        Moult__Offer offer = MOULT__OFFER__INIT;
        Message m = MOULT__MESSAGE__INIT;
        g_autofree ProtobufCBinaryData *selection = NULL;

        offer.push_id = message_blob(r->push_id, sizeof(r->push_id));
        offer.manifest_digest = message_blob(release->digest, DIGEST_SIZE);
        offer.pack_size = release->size;
        offer.sources = (Moult__SourceKind *)sources;
        offer.n_sources = n_sources;
        offer.dry_run = r->options.dry_run != FALSE;
        offer.allow_drift = r->options.allow_drift != FALSE;
        offer.strict_window = r->options.strict_window != FALSE;
        offer.merge = r->options.merge;
        offer.restart_stale = r->options.restart_stale != FALSE;
        offer.instant = r->options.instant != FALSE;
        offer.sync_mode = r->options.sync_mode;
        offer.confirm_timeout_ms = r->options.confirm_timeout_ms;
        offer.workers = r->options.workers;
        if (r->options.selection) {
                offer.n_selection = MIN(g_strv_length(r->options.selection), LIMIT_SELECTION);
                selection = g_new0(ProtobufCBinaryData, offer.n_selection);
                for (gsize i = 0; i < offer.n_selection; i++)
                        selection[i] = message_bytes(r->options.selection[i]);
                offer.selection = selection;
        }
        m.body_case = MOULT__MESSAGE__BODY_OFFER;
        m.offer = &offer;
        say(t, &m);
}

static void command(PushTalk *t, const PushRecord *r, Moult__PushCommand *c)
{
        Message m = MOULT__MESSAGE__INIT;

        c->push_id = message_blob(r->push_id, sizeof(r->push_id));
        m.body_case = MOULT__MESSAGE__BODY_COMMAND;
        m.command = c;
        say(t, &m);
}

void push_talk_sources(PushTalk *t, const PushRecord *r, const Moult__SourceKind *sources, gsize n_sources)
{
        Moult__PushCommand c = MOULT__PUSH_COMMAND__INIT;

        c.action = MOULT__PUSH_ACTION__PUSH_SOURCES_CHANGED;
        c.sources = (Moult__SourceKind *)sources;
        c.n_sources = n_sources;
        command(t, r, &c);
}

void push_talk_command(PushTalk *t, const PushRecord *r, Moult__PushAction action)
{
        Moult__PushCommand c = MOULT__PUSH_COMMAND__INIT;

        c.action = action;
        command(t, r, &c);
}

void push_talk_rollback(PushTalk *t, const PushRecord *r)
{
        Moult__RollbackGeneration rollback = MOULT__ROLLBACK_GENERATION__INIT;
        Message m = MOULT__MESSAGE__INIT;

        rollback.push_id = message_blob(r->push_id, sizeof(r->push_id));
        rollback.generation = r->options.rollback_generation;
        rollback.force = r->options.force != FALSE;
        if (push_rollback_names_push(&r->options))
                rollback.of_push = message_blob(r->options.rollback_of, sizeof r->options.rollback_of);
        m.body_case = MOULT__MESSAGE__BODY_ROLLBACK;
        m.rollback = &rollback;
        say(t, &m);
}
