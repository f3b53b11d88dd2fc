/* host-service/push/push_state.c - the push state machine. */
#include "host-service/push/push_state.h"

#define UNREACHABLE                                                                                          \
        "the guest cannot be reached: is the VM running, and moult-agent in it? Nothing was touched; push "  \
        "again "                                                                                             \
        "when `moult vm show` says connected"
#define WENT_AWAY                                                                                            \
        "the guest went away before the commit; nothing was touched there. Push again when it is back: "     \
        "what was "                                                                                          \
        "staged is taken up"
#define SILENT                                                                                               \
        "the guest is connected but does not answer; nothing is active there. Look at moult-agent's log "    \
        "and "                                                                                               \
        "the load of the guest, then push again"
#define WENT_AWAY_LATE                                                                                       \
        "the guest went away during the commit. It decides by itself: without a confirmation it takes the "  \
        "upgrade "                                                                                           \
        "back. See `moult vm show` and `moult-agent history` in the guest when it is back"
#define WENT_AWAY_CONFIRM                                                                                    \
        "the guest went away while it was told to keep the upgrade, which may be in place or taken back. "   \
        "`moult vm show` says which when it is back"
#define STILL_NEW                                                                                            \
        "the guest says that the release which was to be taken back is in place. See `moult-agent history` " \
        "there, and ask again"
#define WENT_AWAY_ROLLBACK                                                                                   \
        "the guest went away during the rollback, which it finishes by itself. See `moult-agent history` "   \
        "in the "                                                                                            \
        "guest when it is back"
#define FORGOT                                                                                               \
        "the guest keeps forgetting this push; nothing is active there. Look at moult-agent's log in the "   \
        "guest"
#define FORGOT_ACTIVE                                                                                        \
        "the guest does not know this push any more although it was active: was the VM reverted to a "       \
        "snapshot?"
#define CIRCLES                                                                                              \
        "the guest's answers go round in circles; the push was given up. Look at moult-agent's log in the "  \
        "guest"
#define STALLED                                                                                              \
        "the guest answers but does not get on; the push was taken back, nothing is active there. Look at "  \
        "moult-agent's log and the load of the guest, then push again"
#define STALLED_LATE                                                                                         \
        "the guest answers but does not finish the commit. It decides by itself: without a confirmation it " \
        "takes the upgrade back. See moult-agent's log and `moult-agent history` there"
#define STALLED_ROLLBACK                                                                                     \
        "the guest answers but does not finish the rollback. See moult-agent's log and `moult-agent "        \
        "history` there"
#define CIRCLES_LATE                                                                                         \
        "the guest said that the release is active, then that it is not; the push was given up. Look at "    \
        "moult-agent's log and `moult-agent history` in the guest"
#define CANCELLED_LATE "cancelled when the guest had switched already; it has taken the upgrade back"
#define TAKEN_BACK_SINCE                                                                                     \
        "the guest had committed it, and an operation of its own has taken it back since. `moult-agent "     \
        "history` there says more"
#define TOO_MUCH "the guest did more than a dry run allows; look at moult-agent's log in the guest"

static struct push_step stay(PushState state, const struct push_facts *f, PushDo action)
{
        return (struct push_step){.next = state, .action = action, .outcome = f->outcome};
}

static struct push_step go(PushState next, const struct push_facts *f, PushDo action)
{
        return stay(next, f, action);
}

/* The outcome is decided (an earlier decision stands); the window goes, then the push ends. */
static struct push_step conclude(const struct push_facts *f, PushState outcome, MoultError error,
                                 const char *text)
{
        if (f->outcome != PUSH_STATE_QUEUED)
                return go(PUSH_STATE_UNPLUG, f, PUSH_DO_UNPLUG);
        return (struct push_step){.next = PUSH_STATE_UNPLUG,
                                  .action = PUSH_DO_UNPLUG,
                                  .outcome = outcome,
                                  .error = error,
                                  .text = text};
}

/* As conclude(), but the guest is told to forget the push first. */
static struct push_step take_back(const struct push_facts *f, PushState outcome, MoultError error,
                                  const char *text)
{
        struct push_step s = conclude(f, outcome, error, text);

        s.next = PUSH_STATE_ABORT;
        s.action = PUSH_DO_ABORT;
        return s;
}

/* Given up before the commit: who can still be told, is told. What stays in the guest would keep it busy. */
static struct push_step give_up(const struct push_facts *f, MoultError error, const char *text)
{
        return f->held && f->connected ? take_back(f, PUSH_STATE_FAILED, error, text)
                                       : conclude(f, PUSH_STATE_FAILED, error, text);
}

static gboolean is_talking(PushState s)
{
        return s >= PUSH_STATE_OFFER && s <= PUSH_STATE_ABORT;
}

static struct push_step offer(const struct push_facts *f)
{
        if (f->forgotten >= PUSH_FORGOTTEN_MAX)
                return conclude(f, PUSH_STATE_FAILED, MOULT_ERROR_WRONG_STATE, FORGOT);
        return f->want_window ? go(PUSH_STATE_PLUG, f, PUSH_DO_PLUG) : go(PUSH_STATE_OFFER, f, PUSH_DO_OFFER);
}

/* What is said when the guest was not heard of for a while, or has just come back. */
static struct push_step ask(PushState state, const struct push_facts *f)
{
        switch (state) {
        case PUSH_STATE_OFFER:
                return stay(state, f, PUSH_DO_OFFER);
        case PUSH_STATE_PLAN:
        case PUSH_STATE_STAGE:
        case PUSH_STATE_COMMIT:
        case PUSH_STATE_CONFIRM:
                return stay(state, f, PUSH_DO_QUERY);
        case PUSH_STATE_ABORT:
                return stay(state, f, PUSH_DO_ABORT);
        default:
                return stay(state, f, PUSH_DO_NOTHING);
        }
}

static struct push_step on_start(PushState state, const struct push_facts *f)
{
        if (state == PUSH_STATE_QUEUED)
                return go(PUSH_STATE_CONNECT, f, PUSH_DO_AWAIT_SESSION);
        if (state == PUSH_STATE_PLUG)
                return stay(state, f, PUSH_DO_PLUG);
        if (state == PUSH_STATE_UNPLUG)
                return stay(state, f, PUSH_DO_UNPLUG);
        if (push_state_is_final(state))
                return stay(state, f, PUSH_DO_END);
        return stay(state, f, PUSH_DO_AWAIT_SESSION);
}

/* Before the commit an offer is also the question: the guest answers with the phase it is in, and one that
 * was restarted plans anew and takes up what it has staged. */
static struct push_step on_session(PushState state, const struct push_facts *f)
{
        switch (state) {
        case PUSH_STATE_CONNECT:
                /* A rollback is asked about first: it may have been sent before a restart. */
                return f->rollback ? go(PUSH_STATE_COMMIT, f, PUSH_DO_QUERY) : offer(f);
        case PUSH_STATE_PLAN:
        case PUSH_STATE_STAGE:
                return f->outcome == PUSH_STATE_QUEUED ? offer(f) : ask(state, f);
        default:
                return ask(state, f);
        }
}

static struct push_step on_unknown(PushState state, const struct push_facts *f)
{
        if (f->rollback && state == PUSH_STATE_COMMIT)
                return f->forgotten < PUSH_FORGOTTEN_MAX
                               ? stay(state, f, PUSH_DO_ROLLBACK)
                               : conclude(f, PUSH_STATE_FAILED, MOULT_ERROR_WRONG_STATE, FORGOT);
        if (f->outcome != PUSH_STATE_QUEUED)
                return conclude(f, f->outcome, MOULT_ERROR_UNSPECIFIED, NULL);
        if (state == PUSH_STATE_CONFIRM)
                return conclude(f, PUSH_STATE_FAILED, MOULT_ERROR_WRONG_STATE, FORGOT_ACTIVE);
        return offer(f);
}

static struct push_step on_refused(PushState state, const struct push_facts *f, MoultError error)
{
        struct push_step s = conclude(f, PUSH_STATE_REFUSED, error, NULL);

        if (f->has_plan && !f->rollback && state <= PUSH_STATE_PLAN) {
                s.next = PUSH_STATE_PLAN; /* where PLAN_STORED is waited for */
                s.action = PUSH_DO_FETCH_PLAN;
        }
        return s;
}

/* While taking back: only an end counts. */
static struct push_step on_phase_in_abort(const struct push_facts *f, Moult__TransactionPhase phase)
{
        struct push_step s = conclude(f, PUSH_STATE_CANCELLED, MOULT_ERROR_CANCELLED, NULL);

        switch (phase) {
        case MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK:
                /* Its services have run on the new files for a while: more than a cancel. */
                if (f->switched && s.outcome == PUSH_STATE_CANCELLED) {
                        s.outcome = PUSH_STATE_ROLLED_BACK;
                        s.error = MOULT_ERROR_CANCELLED;
                        s.text = CANCELLED_LATE;
                }
                return s;
        case MOULT__TRANSACTION_PHASE__PHASE_NONE:
        case MOULT__TRANSACTION_PHASE__PHASE_REFUSED:
        case MOULT__TRANSACTION_PHASE__PHASE_FAILED:
                return s;
        case MOULT__TRANSACTION_PHASE__PHASE_COMMITTED: /* what is true counts, not what was wished */
                s.outcome = PUSH_STATE_DONE;
                return s;
        default:
                return stay(PUSH_STATE_ABORT, f, PUSH_DO_NOTHING);
        }
}

/* The push has ended well, and what ended it badly later is another operation's doing. */
static struct push_step on_taken_back_since(PushState state, const struct push_facts *f)
{
        struct push_step s = conclude(f, PUSH_STATE_DONE, MOULT_ERROR_UNSPECIFIED, TAKEN_BACK_SINCE);

        if (state == PUSH_STATE_ABORT) { /* as with COMMITTED: what is true counts */
                s.outcome = PUSH_STATE_DONE;
                s.text = TAKEN_BACK_SINCE;
        }
        return s;
}

static struct push_step on_phase(PushState state, const struct push_facts *f, const struct push_input *in)
{
        Moult__TransactionPhase phase = in->phase;
        MoultError error = in->error;

        if (!is_talking(state))
                return stay(state, f, PUSH_DO_NOTHING);
        if (in->was_committed && !f->rollback && !f->dry_run &&
            (phase == MOULT__TRANSACTION_PHASE__PHASE_ROLLING_BACK ||
             phase == MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK))
                return on_taken_back_since(state, f);
        if (state == PUSH_STATE_ABORT)
                return on_phase_in_abort(f, phase);
        if (state == PUSH_STATE_CONFIRM && push_phase_is_before_active(phase))
                return f->complaints < PUSH_COMPLAINTS_MAX
                               ? stay(state, f, PUSH_DO_NOTHING)
                               : conclude(f, PUSH_STATE_FAILED, MOULT_ERROR_WRONG_STATE, CIRCLES_LATE);
        if (f->dry_run && phase >= MOULT__TRANSACTION_PHASE__PHASE_STAGING &&
            phase <= MOULT__TRANSACTION_PHASE__PHASE_COMMITTED)
                return take_back(f, PUSH_STATE_FAILED, MOULT_ERROR_WRONG_STATE, TOO_MUCH);
        switch (phase) {
        case MOULT__TRANSACTION_PHASE__PHASE_NONE:
                return on_unknown(state, f);
        case MOULT__TRANSACTION_PHASE__PHASE_PLANNING:
                return f->rollback ? stay(state, f, PUSH_DO_NOTHING)
                                   : go(PUSH_STATE_PLAN, f, PUSH_DO_NOTHING);
        case MOULT__TRANSACTION_PHASE__PHASE_PLANNED:
                if (f->rollback)
                        return stay(state, f, PUSH_DO_NOTHING);
                return f->dry_run ? go(PUSH_STATE_PLAN, f, PUSH_DO_FETCH_PLAN)
                                  : go(PUSH_STATE_STAGE, f, PUSH_DO_STAGE);
        case MOULT__TRANSACTION_PHASE__PHASE_STAGING:
                return f->rollback ? stay(state, f, PUSH_DO_NOTHING)
                                   : go(PUSH_STATE_STAGE, f, PUSH_DO_NOTHING);
        case MOULT__TRANSACTION_PHASE__PHASE_STAGED:
                return f->rollback ? stay(state, f, PUSH_DO_NOTHING)
                                   : go(PUSH_STATE_COMMIT, f, PUSH_DO_COMMIT);
        case MOULT__TRANSACTION_PHASE__PHASE_COMMITTING:
                return go(PUSH_STATE_COMMIT, f, PUSH_DO_NOTHING);
        case MOULT__TRANSACTION_PHASE__PHASE_ACTIVE:
                return go(PUSH_STATE_CONFIRM, f, PUSH_DO_CONFIRM);
        case MOULT__TRANSACTION_PHASE__PHASE_COMMITTED:
                return f->rollback ? conclude(f, PUSH_STATE_FAILED, MOULT_ERROR_WRONG_STATE, STILL_NEW)
                                   : conclude(f, PUSH_STATE_DONE, MOULT_ERROR_UNSPECIFIED, NULL);
        case MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK:
                return f->rollback ? conclude(f, PUSH_STATE_DONE, MOULT_ERROR_UNSPECIFIED, NULL)
                                   : conclude(f, PUSH_STATE_ROLLED_BACK, error, NULL);
        case MOULT__TRANSACTION_PHASE__PHASE_REFUSED:
                return on_refused(state, f, error);
        case MOULT__TRANSACTION_PHASE__PHASE_FAILED:
                return conclude(f, PUSH_STATE_FAILED, error, NULL);
        case MOULT__TRANSACTION_PHASE__PHASE_ROLLING_BACK:
        default:
                return stay(state, f, PUSH_DO_NOTHING);
        }
}

/* Errors that mean "not now" or "not in this phase": the phase tells more than they do. */
static gboolean is_passing(MoultError e)
{
        return e == MOULT_ERROR_WRONG_STATE || e == MOULT_ERROR_BUSY || e == MOULT_ERROR_TIMEOUT;
}

static PushState outcome_of(MoultError e)
{
        switch (e) {
        case MOULT_ERROR_UNSUPPORTED:
        case MOULT_ERROR_UNTRUSTED:
        case MOULT_ERROR_REFUSED:
        case MOULT_ERROR_NO_SPACE:
        case MOULT_ERROR_HOOK:
        case MOULT_ERROR_DRIFT:
        case MOULT_ERROR_CORRUPT:
        case MOULT_ERROR_NOT_FOUND:
                return PUSH_STATE_REFUSED;
        default:
                return PUSH_STATE_FAILED;
        }
}

static struct push_step on_error(PushState state, const struct push_facts *f, MoultError error)
{
        if (!is_talking(state))
                return stay(state, f, PUSH_DO_NOTHING);
        if (f->complaints >= PUSH_COMPLAINTS_MAX)
                return state < PUSH_STATE_COMMIT ? give_up(f, error, NULL)
                                                 : conclude(f, PUSH_STATE_FAILED, error, NULL);
        switch (state) {
        case PUSH_STATE_OFFER:
                if (error == MOULT_ERROR_BUSY)
                        return stay(state, f, PUSH_DO_OFFER_LATER);
                return is_passing(error) ? stay(state, f, PUSH_DO_NOTHING)
                                         : conclude(f, outcome_of(error), error, NULL);
        case PUSH_STATE_PLAN:
        case PUSH_STATE_STAGE:
                if (error == MOULT_ERROR_BUSY)
                        return stay(state, f, PUSH_DO_QUERY_LATER);
                return is_passing(error) ? stay(state, f, PUSH_DO_QUERY)
                                         : take_back(f, PUSH_STATE_FAILED, error, NULL);
        case PUSH_STATE_ABORT:
                return is_passing(error) ? stay(state, f, PUSH_DO_NOTHING)
                                         : conclude(f, PUSH_STATE_CANCELLED, MOULT_ERROR_CANCELLED, NULL);
        default: /* COMMIT, CONFIRM: the guest has decided, or will; only its phase says what. */
                if (f->rollback)
                        return error == MOULT_ERROR_BUSY ? stay(state, f, PUSH_DO_OFFER_LATER)
                                                         : conclude(f, outcome_of(error), error, NULL);
                if (error == MOULT_ERROR_BUSY)
                        return stay(state, f, PUSH_DO_QUERY_LATER);
                return stay(state, f, is_passing(error) ? PUSH_DO_QUERY : PUSH_DO_NOTHING);
        }
}

static struct push_step on_cancel(PushState state, const struct push_facts *f)
{
        switch (state) {
        case PUSH_STATE_QUEUED:
                return (struct push_step){.next = PUSH_STATE_CANCELLED,
                                          .action = PUSH_DO_END,
                                          .outcome = PUSH_STATE_CANCELLED,
                                          .error = MOULT_ERROR_CANCELLED};
        case PUSH_STATE_CONNECT:
                return conclude(f, PUSH_STATE_CANCELLED, MOULT_ERROR_CANCELLED, NULL);
        case PUSH_STATE_PLUG: /* it may be an offer that is repeated */
        case PUSH_STATE_OFFER:
        case PUSH_STATE_PLAN:
        case PUSH_STATE_STAGE:
                return take_back(f, PUSH_STATE_CANCELLED, MOULT_ERROR_CANCELLED, NULL);
        case PUSH_STATE_COMMIT: /* not confirmed yet: the guest can still roll back; a rollback is finished */
                return f->rollback ? stay(state, f, PUSH_DO_NOTHING)
                                   : take_back(f, PUSH_STATE_CANCELLED, MOULT_ERROR_CANCELLED, NULL);
        default: /* too late, or on its way out */
                return stay(state, f, PUSH_DO_NOTHING);
        }
}

static struct push_step on_patience_over(PushState state, const struct push_facts *f)
{
        switch (state) {
        case PUSH_STATE_CONNECT:
                return conclude(f, PUSH_STATE_FAILED, MOULT_ERROR_TIMEOUT, UNREACHABLE);
        case PUSH_STATE_OFFER:
        case PUSH_STATE_PLAN:
        case PUSH_STATE_STAGE:
                return give_up(f, MOULT_ERROR_TIMEOUT, f->connected ? SILENT : WENT_AWAY);
        case PUSH_STATE_CONFIRM:
                return conclude(f, PUSH_STATE_FAILED, MOULT_ERROR_TIMEOUT, WENT_AWAY_CONFIRM);
        case PUSH_STATE_COMMIT:
                return conclude(f, PUSH_STATE_FAILED, MOULT_ERROR_TIMEOUT,
                                f->rollback ? WENT_AWAY_ROLLBACK : WENT_AWAY_LATE);
        case PUSH_STATE_ABORT:
                return conclude(f, PUSH_STATE_CANCELLED, MOULT_ERROR_CANCELLED, NULL);
        default:
                return stay(state, f, PUSH_DO_NOTHING);
        }
}

static struct push_step on_stalled(PushState state, const struct push_facts *f)
{
        switch (state) {
        case PUSH_STATE_OFFER:
        case PUSH_STATE_PLAN:
        case PUSH_STATE_STAGE:
                return take_back(f, PUSH_STATE_FAILED, MOULT_ERROR_TIMEOUT, STALLED);
        case PUSH_STATE_COMMIT:
        case PUSH_STATE_CONFIRM:
                return conclude(f, PUSH_STATE_FAILED, MOULT_ERROR_TIMEOUT,
                                f->rollback ? STALLED_ROLLBACK : STALLED_LATE);
        case PUSH_STATE_ABORT:
                return conclude(f, PUSH_STATE_CANCELLED, MOULT_ERROR_CANCELLED, NULL);
        default:
                return stay(state, f, PUSH_DO_NOTHING);
        }
}

static struct push_step decide(PushState state, const struct push_facts *f, const struct push_input *in)
{
        switch (in->kind) {
        case PUSH_INPUT_START:
                return on_start(state, f);
        case PUSH_INPUT_SESSION:
                return on_session(state, f);
        case PUSH_INPUT_SESSION_LOST:
                return stay(state, f,
                            state == PUSH_STATE_CONNECT || is_talking(state) ? PUSH_DO_AWAIT_SESSION
                                                                             : PUSH_DO_NOTHING);
        case PUSH_INPUT_PLUGGED:
                return state == PUSH_STATE_PLUG ? go(PUSH_STATE_OFFER, f, PUSH_DO_OFFER)
                                                : stay(state, f, PUSH_DO_NOTHING);
        case PUSH_INPUT_NO_SNAPSHOT:
                return state == PUSH_STATE_CONNECT ? conclude(f, PUSH_STATE_FAILED, in->error, NULL)
                                                   : stay(state, f, PUSH_DO_NOTHING);
        case PUSH_INPUT_PLUG_FAILED:
                if (state != PUSH_STATE_PLUG)
                        return stay(state, f, PUSH_DO_NOTHING);
                return f->need_window ? give_up(f, in->error, NULL) : go(PUSH_STATE_OFFER, f, PUSH_DO_OFFER);
        case PUSH_INPUT_PHASE:
                return on_phase(state, f, in);
        case PUSH_INPUT_ERROR:
                return on_error(state, f, in->error);
        case PUSH_INPUT_PLAN_STORED:
                if (state != PUSH_STATE_PLAN || (!f->dry_run && f->outcome == PUSH_STATE_QUEUED))
                        return stay(state, f, PUSH_DO_NOTHING);
                return f->outcome != PUSH_STATE_QUEUED
                               ? conclude(f, f->outcome, MOULT_ERROR_UNSPECIFIED, NULL)
                               : take_back(f, PUSH_STATE_DONE, MOULT_ERROR_UNSPECIFIED, NULL);
        case PUSH_INPUT_UNPLUGGED:
                return state == PUSH_STATE_UNPLUG ? go(f->outcome, f, PUSH_DO_END)
                                                  : stay(state, f, PUSH_DO_NOTHING);
        case PUSH_INPUT_CANCEL:
                return on_cancel(state, f);
        case PUSH_INPUT_BEAT:
                return ask(state, f);
        case PUSH_INPUT_PATIENCE_OVER:
                return on_patience_over(state, f);
        case PUSH_INPUT_STALLED:
                return on_stalled(state, f);
        case PUSH_INPUT_MAX:
                break;
        }
        return stay(state, f, PUSH_DO_NOTHING);
}

gboolean push_input_asks(PushInputKind kind)
{
        return kind == PUSH_INPUT_START || kind == PUSH_INPUT_SESSION || kind == PUSH_INPUT_BEAT;
}

gboolean push_do_is_command(PushDo action)
{
        return action == PUSH_DO_STAGE || action == PUSH_DO_COMMIT || action == PUSH_DO_CONFIRM;
}

gboolean push_phase_is_before_active(Moult__TransactionPhase phase)
{
        return phase >= MOULT__TRANSACTION_PHASE__PHASE_PLANNING &&
               phase <= MOULT__TRANSACTION_PHASE__PHASE_COMMITTING;
}

struct push_step push_transition(PushState state, const struct push_facts *f, const struct push_input *in)
{
        struct push_step s;

        if (push_state_is_final(state))
                return stay(state, f, in->kind == PUSH_INPUT_START ? PUSH_DO_END : PUSH_DO_NOTHING);
        s = decide(state, f, in);
        if (s.next == state && in->kind == PUSH_INPUT_PHASE && push_do_is_command(s.action) && !f->asked)
                s.action = PUSH_DO_NOTHING;
        /* An honest guest needs a dozen changes of state; the commit's own ones are never cut off. */
        if (s.next != state && f->steps >= PUSH_STEPS_MAX && is_talking(s.next) && s.next < PUSH_STATE_COMMIT)
                return give_up(f, MOULT_ERROR_WRONG_STATE, CIRCLES);
        return s;
}

const char *push_do_name(PushDo action)
{
        static const char *const names[PUSH_DO_MAX] = {
                "nothing", "await-session", "plug",       "offer",  "offer-later",
                "query",   "query-later",   "fetch-plan", "stage",  "commit",
                "confirm", "abort",         "rollback",   "unplug", "end",
        };

        return action < PUSH_DO_MAX ? names[action] : "?";
}
