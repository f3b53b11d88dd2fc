/* tests/sim/agent_private.h - shared by agent.c (the push), agent_session.c (the session), agent_stage.c (the
 * bytes). */
#pragma once

#include "tests/sim/agent.h"
#include "tests/support/agent_talk.h"

#define P(x)          MOULT__TRANSACTION_PHASE__PHASE_##x
#define AGENT_SOURCES 4u

struct Agent {
        const struct agent_guest *guest;
        AgentTalk talk;
        gboolean switched;
        gboolean working, aborting, confirming, judged, healthy;
        guint release;
        guint32 confirm_ms;
        Moult__SourceKind sources[AGENT_SOURCES], wanted;
        guint n_sources, source; /* the rung */
        gsize fetched, bytes_done;
        gboolean fetching;
        guint64 fetch;
        guint bad_reads;
        guint8 timer; /* its address names the phase's timer */
};

/* agent.c */
void agent_enter(Agent *a, Moult__TransactionPhase phase, Moult__ErrorCode error);
void agent_offer(Agent *a, const Moult__Offer *o);
/* @generation: only if it is the newest; 0: whichever that is. */
void agent_begin_rollback(Agent *a, const guint8 *push_id, guint64 generation, const guint8 *of_push);
void agent_act(Agent *a, const Moult__PushCommand *c);
void agent_recover(Agent *a);
void agent_stage_later(Agent *a);
void agent_staged(Agent *a, Moult__ErrorCode error);

/* agent_stage.c */
void agent_set_sources(Agent *a, const Moult__SourceKind *sources, gsize n);
void agent_stage_more(Agent *a);
void agent_stage_lost(Agent *a); /* the session has gone */
