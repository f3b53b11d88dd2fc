/* host-service/push/push_state.h - the push state machine: pure. What has happened goes in, what to do next
 * comes out.
 *
 * Theory of operation: the guest's TransactionState is the truth, this machine only follows it. Every command
 * is idempotent and every answer is a phase, so there is one rule for lost answers, restarts of either side
 * and reconnections: ask (QUERY, or the OFFER again), then act on the phase. The only things that are never
 * done on the word of a memory: COMMIT is sent in answer to a phase STAGED, CONFIRM in answer to ACTIVE,
 * nothing else. A command is repeated when the clock or a new session gives a reason, never because the guest
 * repeats its phase: else its answers alone could keep us busy.
 *
 * CONNECT -> PLUG -> OFFER -> PLAN -> STAGE -> COMMIT -> CONFIRM -> UNPLUG -> final; ABORT is the side way of
 * what is cancelled before the confirmation, dry, or went wrong before the commit. A final state is reached
 * through UNPLUG only, where the outcome is durable already (but for what was cancelled in the queue). A
 * rollback goes CONNECT -> COMMIT -> UNPLUG. */
#pragma once

#include "host-service/catalogue/pushes.h"

typedef enum {
        PUSH_INPUT_START,   /* begin; or go on after a restart of the daemon */
        PUSH_INPUT_SESSION, /* a session that suits stands (again) */
        PUSH_INPUT_SESSION_LOST,
        PUSH_INPUT_PLUGGED,
        PUSH_INPUT_NO_SNAPSHOT, /* that had to be taken before anything is said to the guest; error: why */
        PUSH_INPUT_PLUG_FAILED, /* error: why */
        PUSH_INPUT_PHASE,       /* the guest's word; phase, error */
        PUSH_INPUT_ERROR,       /* the guest answered a command with an Error; error */
        PUSH_INPUT_PLAN_STORED, /* the plan is in the catalogue, or cannot be had */
        PUSH_INPUT_UNPLUGGED,   /* or tried in vain: the outcome is the same */
        PUSH_INPUT_CANCEL,
        PUSH_INPUT_BEAT,          /* nothing was heard for a while */
        PUSH_INPUT_PATIENCE_OVER, /* nothing was heard for long */
        PUSH_INPUT_STALLED,       /* it answers, but has not got on for long */
        PUSH_INPUT_MAX
} PushInputKind;

struct push_input {
        PushInputKind kind;
        Moult__TransactionPhase phase;
        MoultError error;
        gboolean was_committed; /* with a phase: it was, and is taken back by an operation of its own */
};

/* What the machine knows besides its state. */
struct push_facts {
        gboolean dry_run, rollback;
        gboolean want_window; /* a window is worth trying */
        gboolean need_window; /* ivshmem or pmem was asked for: without a window there is no push */
        gboolean has_plan;    /* the guest refused entry by entry: its plan says why */
        gboolean switched;    /* the guest has reported a switch: what is taken back now was active */
        PushState outcome;    /* QUEUED: not decided */
        guint forgotten;    /* times that the guest said it did not know the push, since the daemon started */
        guint complaints;   /* Error answers since then */
        guint steps;        /* changes of state since then */
        gboolean held;      /* the guest may know of this push */
        gboolean connected; /* there is a session to say something on */
        gboolean asked; /* a beat or a new session has come since the last command: it may have been lost */
};

typedef enum {
        PUSH_DO_NOTHING,
        PUSH_DO_AWAIT_SESSION,
        PUSH_DO_PLUG,
        PUSH_DO_OFFER,
        PUSH_DO_OFFER_LATER, /* the guest is busy: have it forget what an earlier push left, then ask again */
        PUSH_DO_QUERY,
        PUSH_DO_QUERY_LATER, /* the guest is busy with something that passes, a freeze say: ask in a moment */
        PUSH_DO_FETCH_PLAN,
        PUSH_DO_STAGE,
        PUSH_DO_COMMIT,
        PUSH_DO_CONFIRM,
        PUSH_DO_ABORT,
        PUSH_DO_ROLLBACK, /* RollbackGeneration */
        PUSH_DO_UNPLUG,
        PUSH_DO_END, /* the state is final */
        PUSH_DO_MAX
} PushDo;

struct push_step {
        PushState next;
        PushDo action;
        PushState outcome; /* as decided now; the facts' one if nothing changed */
        MoultError error;  /* with a new outcome: of which class; UNSPECIFIED: none, or the guest's own */
        const char *text;  /* with a new outcome: why, in our words; NULL: the guest's text says it, if it is
                              not DONE */
};

/* A guest that forgets, complains or goes round in circles more often than this fails the push. */
#define PUSH_FORGOTTEN_MAX  6u
#define PUSH_COMPLAINTS_MAX 90u
#define PUSH_STEPS_MAX      256u

struct push_step push_transition(PushState state, const struct push_facts *facts,
                                 const struct push_input *input);

/* What makes `asked` true, and what makes it false again. */
gboolean push_input_asks(PushInputKind kind);
gboolean push_do_is_command(PushDo action);
/* A guest that was active cannot be here again: a false word, which is counted among the complaints. */
gboolean push_phase_is_before_active(Moult__TransactionPhase phase);

/* For messages and tests. */
const char *push_do_name(PushDo action);
