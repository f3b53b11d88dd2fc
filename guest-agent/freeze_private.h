/* guest-agent/freeze_private.h - what freeze.c (requests, telling, an agent's start) and freeze_steps.c
 * (hooks, the holder, what comes after it) share. Nobody else includes it. */
#pragma once

#include "guest-agent/freeze.h"
#include "guest-agent/freeze_state.h"
#include "guest-agent/freezer.h"
#include "guest-agent/worker.h"

#define P(x) MOULT__FREEZE_PHASE__FREEZE_PHASE_##x

struct Freezes {
        const struct agent_config *config;
        Peers *peers;
        struct freezes_events events;
        gpointer user;
        char *directory; /* of the command socket: in memory */
        GMainContext *context;
        Worker *worker; /* hooks, and thawing what nobody holds any more */

        struct freeze_state *now; /* the one that runs, or the last one; NULL: none */
        gboolean running;
        gboolean frozen; /* something may be; the log is held back */
        gint thaw_asked; /* atomic: hooks look at it */
        guint32 lease_ms;
        int fd; /* to the holder, or -1 */
        guint source;
        gboolean heard, in_scope; /* the holder has said something; has a control group of its own */
        guint rescues, rescued;   /* how often what a killed holder left was tried, and what was thawed */
        char *failed_before;      /* what had ended it before its holder was killed; NULL: nothing */
        guint again;              /* the next try */
        GQueue renewals;          /* struct ticket: answered by what the holder says next */
};

/* ---- freeze.c ---- */

void freeze_notify(Freezes *f);
void freeze_answer_renewals(Freezes *f);
/* Not while something is frozen: for who comes after us. */
void freeze_save(Freezes *f);
void freeze_enter(Freezes *f, Moult__FreezePhase phase);
/* Holds the log back, or writes it. */
void freeze_set_frozen(Freezes *f, gboolean frozen);
/* The last step is done. */
void freeze_finish(Freezes *f);

/* ---- freeze_steps.c ---- */

/* From BEGIN on. */
void freeze_go(Freezes *f);
/* Nothing is frozen (any more): the post-thaw hooks, then the end. */
void freeze_go_back(Freezes *f);
/* Thaws what the record names, each second until nothing is left that may be frozen; then freeze_go_back().
 */
void freeze_rescue(Freezes *f);
/* Takes over @fd, the way to a holder. */
void freeze_take_link(Freezes *f, int fd);
void freeze_drop_link(Freezes *f);
void freeze_take_report(Freezes *f, const struct freeze_report *r);
/* FALSE: there is no holder. */
gboolean freeze_order(Freezes *f, enum freeze_order_kind kind, guint32 lease_ms);
