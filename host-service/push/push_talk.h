/* host-service/push/push_talk.h - what a push says to its guest: one command at a time, its answer or
 * nothing.
 *
 * A newer command replaces the one whose answer is still awaited: every answer is the whole truth, so none is
 * missed. */
#pragma once

#include "host-service/catalogue/releases.h"
#include "host-service/catalogue/pushes.h"
#include "proto/session.h"

typedef struct PushTalk PushTalk;

/* The guest's answer: its state, or the Error that it sent (@error). Silence and lost sessions are not told:
 * the owner's own clock sees to them. */
typedef void (*push_talk_func)(const Moult__TransactionState *state, const GError *error, gpointer user);

PushTalk *push_talk_new(push_talk_func answered, gpointer user);
void push_talk_free(PushTalk *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PushTalk, push_talk_free)
/* NULL: nobody to talk to. A reference is taken. */
void push_talk_set_session(PushTalk *t, Session *s);
Session *push_talk_session(const PushTalk *t);

/* Without a session nothing is sent. */
void push_talk_offer(PushTalk *t, const PushRecord *r, const ReleaseRecord *release,
                     const Moult__SourceKind *sources, gsize n_sources);
/* What of the offer's ladder can be had now. */
void push_talk_sources(PushTalk *t, const PushRecord *r, const Moult__SourceKind *sources, gsize n_sources);
void push_talk_command(PushTalk *t, const PushRecord *r, Moult__PushAction action);
void push_talk_rollback(PushTalk *t, const PushRecord *r);
