/* tests/support/agent_talk.h - what an agent that is no real one says to its host: questions, commands,
 * answers.
 *
 * The one place of the tests where the agent's side of docs/protocol.md is spoken. It decides by the real
 * table of commands and phases (guest-agent/push_rules.c); what a command does, and how long that takes, is
 * its owner's: fake_agent (a script) or tests/sim (time, and a disk). */
#pragma once

#include "common/digest.h"
#include "proto/session.h"

/* One line of an agent's history. */
struct agent_generation {
        guint64 number;
        char release[64]; /* "NAME VERSION" */
        guint8 digest[DIGEST_SIZE];
        Moult__TransactionPhase phase;
};

/* Of the owner; @agent is the AgentTalk's. */
struct agent_talk_ops {
        gboolean (*is_busy)(gpointer agent); /* takes no new push now */
        void (*offer)(gpointer agent, const Moult__Offer *o);
        void (*roll_back)(gpointer agent, const Moult__RollbackGeneration *r);
        void (*act)(gpointer agent, const Moult__PushCommand *c); /* legal in this phase */
        /* The rest of the present push's state: bytes, entries, sources. */
        void (*fill)(gpointer agent, Moult__TransactionState *s);
        /* The end of an earlier push: FALSE if it is not known (any more). */
        gboolean (*past)(gpointer agent, const guint8 *push_id, Moult__TransactionState *s);
        guint (*plan_items)(gpointer agent);
        /* @back: 0 is the newest. FALSE: there is none. */
        gboolean (*generation)(gpointer agent, guint back, struct agent_generation *ret);
        void (*stale)(gpointer agent, const Message *request); /* answers; NULL: nobody is stale */
};

typedef struct {
        const struct agent_talk_ops *ops;
        gpointer agent;
        Session *session; /* owned; NULL: none */
        guint8 push_id[16];
        gboolean known; /* there is a push since the start */
        gboolean rollback, dry_run;
        Moult__TransactionPhase phase;
        Moult__ErrorCode error;
} AgentTalk;

/* A request or a notice of the host's. */
void agent_talk_message(AgentTalk *t, const Message *m);
/* Tells the state, if there is somebody to hear it. */
void agent_talk_tell(AgentTalk *t);
/* Answers a request by the state. */
void agent_talk_answer(AgentTalk *t, const Message *request);
void agent_talk_refuse(AgentTalk *t, const Message *request, MoultError code, const char *why);
/* Another push from here on: nothing of it has happened. */
void agent_talk_begin(AgentTalk *t, const guint8 *push_id, gboolean rollback, gboolean dry_run);
/* No more of this session; no event follows. */
void agent_talk_close(AgentTalk *t);
/* "staged" */
const char *agent_phase_name(Moult__TransactionPhase phase);
