/* tests/unit/test_push_push_state.c - the push state machine: what it does on each word, and what it never
 * does. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>

#include "host-service/push/push_state.h"

TestSuite(push_state, .timeout = 60);

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x

struct row {
        PushState state;
        struct push_facts facts;
        struct push_input input;
        PushState next;
        PushDo action;
        PushState outcome;
};

#define NO PUSH_STATE_QUEUED
#define WINDOW                                                                                               \
        {                                                                                                    \
                .want_window = TRUE                                                                          \
        }
#define DRY                                                                                                  \
        {                                                                                                    \
                .dry_run = TRUE                                                                              \
        }
#define BACK                                                                                                 \
        {                                                                                                    \
                .rollback = TRUE                                                                             \
        }
#define KIND(k)                                                                                              \
        {                                                                                                    \
                .kind = PUSH_INPUT_##k                                                                       \
        }
#define PHASE(p)                                                                                             \
        {                                                                                                    \
                .kind = PUSH_INPUT_PHASE, .phase = P(p)                                                      \
        }
#define PHASE_AFTER_COMMIT(p)                                                                                \
        {                                                                                                    \
                .kind = PUSH_INPUT_PHASE, .phase = P(p), .was_committed = TRUE                               \
        }
#define ERRS(e)                                                                                              \
        {                                                                                                    \
                .kind = PUSH_INPUT_ERROR, .error = MOULT_ERROR_##e                                           \
        }
#define ROW(s, f, i, n, a, o)                                                                                \
        {                                                                                                    \
                PUSH_STATE_##s, f, i, PUSH_STATE_##n, PUSH_DO_##a, PUSH_STATE_##o                            \
        }
#define PLAIN                                                                                                \
        {                                                                                                    \
                0                                                                                            \
        }

static struct row rows[] = {
        /* the straight way */
        ROW(QUEUED, PLAIN, KIND(START), CONNECT, AWAIT_SESSION, QUEUED),
        ROW(CONNECT, PLAIN, KIND(SESSION), OFFER, OFFER, QUEUED),
        ROW(CONNECT, WINDOW, KIND(SESSION), PLUG, PLUG, QUEUED),
        ROW(PLUG, WINDOW, KIND(PLUGGED), OFFER, OFFER, QUEUED),
        ROW(OFFER, PLAIN, PHASE(PLANNING), PLAN, NOTHING, QUEUED),
        ROW(OFFER, PLAIN, PHASE(PLANNED), STAGE, STAGE, QUEUED),
        ROW(PLAN, PLAIN, PHASE(PLANNED), STAGE, STAGE, QUEUED),
        ROW(STAGE, PLAIN, PHASE(STAGING), STAGE, NOTHING, QUEUED),
        ROW(STAGE, PLAIN, PHASE(STAGED), COMMIT, COMMIT, QUEUED),
        ROW(COMMIT, PLAIN, PHASE(COMMITTING), COMMIT, NOTHING, QUEUED),
        ROW(COMMIT, PLAIN, PHASE(ACTIVE), CONFIRM, CONFIRM, QUEUED),
        ROW(CONFIRM, PLAIN, PHASE(COMMITTED), UNPLUG, UNPLUG, DONE),
        {PUSH_STATE_UNPLUG,
         {.outcome = PUSH_STATE_DONE},
         KIND(UNPLUGGED),
         PUSH_STATE_DONE,
         PUSH_DO_END,
         PUSH_STATE_DONE},
        /* without the snapshot that was asked for */
        ROW(CONNECT, PLAIN, KIND(NO_SNAPSHOT), UNPLUG, UNPLUG, FAILED),
        ROW(OFFER, PLAIN, KIND(NO_SNAPSHOT), OFFER, NOTHING, QUEUED),
        /* without a window */
        ROW(PLUG, WINDOW, KIND(PLUG_FAILED), OFFER, OFFER, QUEUED),
        {PUSH_STATE_PLUG,
         {.want_window = TRUE, .need_window = TRUE},
         KIND(PLUG_FAILED),
         PUSH_STATE_UNPLUG,
         PUSH_DO_UNPLUG,
         PUSH_STATE_FAILED},
        /* other ends */
        ROW(OFFER, PLAIN, PHASE(REFUSED), UNPLUG, UNPLUG, REFUSED),
        {PUSH_STATE_PLAN,
         {.has_plan = TRUE},
         PHASE(REFUSED),
         PUSH_STATE_PLAN,
         PUSH_DO_FETCH_PLAN,
         PUSH_STATE_REFUSED},
        {PUSH_STATE_PLAN,
         {.has_plan = TRUE, .outcome = PUSH_STATE_REFUSED},
         KIND(PLAN_STORED),
         PUSH_STATE_UNPLUG,
         PUSH_DO_UNPLUG,
         PUSH_STATE_REFUSED},
        ROW(STAGE, PLAIN, PHASE(FAILED), UNPLUG, UNPLUG, FAILED),
        ROW(COMMIT, PLAIN, PHASE(ROLLING_BACK), COMMIT, NOTHING, QUEUED),
        ROW(COMMIT, PLAIN, PHASE(ROLLED_BACK), UNPLUG, UNPLUG, ROLLED_BACK),
        ROW(CONFIRM, PLAIN, PHASE(ROLLED_BACK), UNPLUG, UNPLUG, ROLLED_BACK),
        /* committed while nobody listened, and taken back since by somebody in the guest */
        ROW(OFFER, PLAIN, PHASE_AFTER_COMMIT(ROLLED_BACK), UNPLUG, UNPLUG, DONE),
        ROW(CONFIRM, PLAIN, PHASE_AFTER_COMMIT(ROLLED_BACK), UNPLUG, UNPLUG, DONE),
        ROW(CONFIRM, PLAIN, PHASE_AFTER_COMMIT(ROLLING_BACK), UNPLUG, UNPLUG, DONE),
        ROW(COMMIT, PLAIN, PHASE_AFTER_COMMIT(ACTIVE), CONFIRM, CONFIRM,
            QUEUED), /* nonsense: the phase counts */
        ROW(COMMIT, BACK, PHASE_AFTER_COMMIT(ROLLED_BACK), UNPLUG, UNPLUG, DONE),
        ROW(COMMIT, DRY, PHASE_AFTER_COMMIT(ROLLED_BACK), UNPLUG, UNPLUG, ROLLED_BACK),
        ROW(OFFER, PLAIN, ERRS(UNTRUSTED), UNPLUG, UNPLUG, REFUSED),
        ROW(OFFER, PLAIN, ERRS(IO), UNPLUG, UNPLUG, FAILED),
        ROW(OFFER, PLAIN, ERRS(BUSY), OFFER, OFFER_LATER, QUEUED),
        ROW(STAGE, PLAIN, ERRS(NO_SPACE), ABORT, ABORT, FAILED),
        ROW(STAGE, PLAIN, ERRS(WRONG_STATE), STAGE, QUERY, QUEUED),
        ROW(COMMIT, PLAIN, ERRS(WRONG_STATE), COMMIT, QUERY, QUEUED),
        /* a freeze keeps the guest from writing: asked at once, the complaints would be used up in a second
         */
        ROW(PLAN, PLAIN, ERRS(BUSY), PLAN, QUERY_LATER, QUEUED),
        ROW(STAGE, PLAIN, ERRS(BUSY), STAGE, QUERY_LATER, QUEUED),
        ROW(COMMIT, PLAIN, ERRS(BUSY), COMMIT, QUERY_LATER, QUEUED),
        /* the guest, or the daemon, was away */
        ROW(OFFER, PLAIN, KIND(START), OFFER, AWAIT_SESSION, QUEUED),
        ROW(STAGE, PLAIN, KIND(START), STAGE, AWAIT_SESSION, QUEUED),
        ROW(COMMIT, PLAIN, KIND(START), COMMIT, AWAIT_SESSION, QUEUED),
        ROW(PLUG, WINDOW, KIND(START), PLUG, PLUG, QUEUED),
        ROW(UNPLUG, PLAIN, KIND(START), UNPLUG, UNPLUG, QUEUED),
        ROW(STAGE, PLAIN, KIND(SESSION_LOST), STAGE, AWAIT_SESSION, QUEUED),
        ROW(OFFER, PLAIN, KIND(SESSION), OFFER, OFFER, QUEUED),
        ROW(STAGE, PLAIN, KIND(SESSION), OFFER, OFFER, QUEUED),
        ROW(STAGE, WINDOW, KIND(SESSION), PLUG, PLUG, QUEUED),
        ROW(COMMIT, PLAIN, KIND(SESSION), COMMIT, QUERY, QUEUED),
        ROW(CONFIRM, PLAIN, KIND(SESSION), CONFIRM, QUERY, QUEUED),
        ROW(STAGE, PLAIN, PHASE(NONE), OFFER, OFFER, QUEUED),
        ROW(COMMIT, WINDOW, PHASE(NONE), PLUG, PLUG, QUEUED),
        ROW(CONFIRM, PLAIN, PHASE(NONE), UNPLUG, UNPLUG, FAILED),
        {PUSH_STATE_OFFER,
         {.forgotten = PUSH_FORGOTTEN_MAX},
         PHASE(NONE),
         PUSH_STATE_UNPLUG,
         PUSH_DO_UNPLUG,
         PUSH_STATE_FAILED},
        ROW(STAGE, PLAIN, KIND(BEAT), STAGE, QUERY, QUEUED),
        ROW(CONNECT, PLAIN, KIND(PATIENCE_OVER), UNPLUG, UNPLUG, FAILED),
        ROW(COMMIT, PLAIN, KIND(PATIENCE_OVER), UNPLUG, UNPLUG, FAILED),
        ROW(STAGE, PLAIN, KIND(PATIENCE_OVER), UNPLUG, UNPLUG, FAILED),
        /* given up, and can still be told */
        {PUSH_STATE_STAGE,
         {.held = TRUE, .connected = TRUE},
         KIND(PATIENCE_OVER),
         PUSH_STATE_ABORT,
         PUSH_DO_ABORT,
         PUSH_STATE_FAILED},
        {PUSH_STATE_PLUG,
         {.want_window = TRUE, .need_window = TRUE, .held = TRUE, .connected = TRUE},
         KIND(PLUG_FAILED),
         PUSH_STATE_ABORT,
         PUSH_DO_ABORT,
         PUSH_STATE_FAILED},
        {PUSH_STATE_PLAN,
         {.held = TRUE, .connected = TRUE, .steps = PUSH_STEPS_MAX},
         PHASE(PLANNED),
         PUSH_STATE_ABORT,
         PUSH_DO_ABORT,
         PUSH_STATE_FAILED},
        ROW(COMMIT, BACK, ERRS(BUSY), COMMIT, OFFER_LATER, QUEUED),
        /* it answers, and does not get on */
        ROW(OFFER, PLAIN, KIND(STALLED), ABORT, ABORT, FAILED),
        ROW(STAGE, PLAIN, KIND(STALLED), ABORT, ABORT, FAILED),
        ROW(CONFIRM, PLAIN, KIND(STALLED), UNPLUG, UNPLUG, FAILED),
        ROW(CONNECT, PLAIN, KIND(STALLED), CONNECT, NOTHING, QUEUED),
        {PUSH_STATE_ABORT,
         {.outcome = PUSH_STATE_FAILED},
         KIND(STALLED),
         PUSH_STATE_UNPLUG,
         PUSH_DO_UNPLUG,
         PUSH_STATE_FAILED},
        /* cancelled */
        ROW(QUEUED, PLAIN, KIND(CANCEL), CANCELLED, END, CANCELLED),
        ROW(CONNECT, PLAIN, KIND(CANCEL), UNPLUG, UNPLUG, CANCELLED),
        ROW(STAGE, PLAIN, KIND(CANCEL), ABORT, ABORT, CANCELLED),
        ROW(COMMIT, PLAIN, KIND(CANCEL), ABORT, ABORT, CANCELLED),
        ROW(COMMIT, BACK, KIND(CANCEL), COMMIT, NOTHING, QUEUED),
        ROW(CONFIRM, PLAIN, KIND(CANCEL), CONFIRM, NOTHING, QUEUED),
        {PUSH_STATE_ABORT,
         {.outcome = PUSH_STATE_CANCELLED},
         PHASE(FAILED),
         PUSH_STATE_UNPLUG,
         PUSH_DO_UNPLUG,
         PUSH_STATE_CANCELLED},
        {PUSH_STATE_ABORT,
         {.outcome = PUSH_STATE_CANCELLED},
         PHASE(COMMITTED),
         PUSH_STATE_UNPLUG,
         PUSH_DO_UNPLUG,
         PUSH_STATE_DONE},
        {PUSH_STATE_ABORT,
         {.outcome = PUSH_STATE_CANCELLED},
         PHASE(STAGED),
         PUSH_STATE_ABORT,
         PUSH_DO_NOTHING,
         PUSH_STATE_CANCELLED},
        {PUSH_STATE_ABORT,
         {.outcome = PUSH_STATE_CANCELLED},
         PHASE(ROLLED_BACK),
         PUSH_STATE_UNPLUG,
         PUSH_DO_UNPLUG,
         PUSH_STATE_CANCELLED},
        {PUSH_STATE_ABORT,
         {.outcome = PUSH_STATE_CANCELLED, .switched = TRUE},
         PHASE(ROLLED_BACK),
         PUSH_STATE_UNPLUG,
         PUSH_DO_UNPLUG,
         PUSH_STATE_ROLLED_BACK},
        {PUSH_STATE_ABORT,
         {.outcome = PUSH_STATE_CANCELLED},
         PHASE_AFTER_COMMIT(ROLLED_BACK),
         PUSH_STATE_UNPLUG,
         PUSH_DO_UNPLUG,
         PUSH_STATE_DONE},
        {PUSH_STATE_ABORT,
         {.outcome = PUSH_STATE_FAILED, .switched = TRUE},
         PHASE(ROLLED_BACK),
         PUSH_STATE_UNPLUG,
         PUSH_DO_UNPLUG,
         PUSH_STATE_FAILED},
        /* dry runs */
        ROW(PLAN, DRY, PHASE(PLANNED), PLAN, FETCH_PLAN, QUEUED),
        ROW(PLAN, DRY, KIND(PLAN_STORED), ABORT, ABORT, DONE),
        ROW(PLAN, DRY, PHASE(STAGED), ABORT, ABORT, FAILED),
        ROW(PLAN, DRY, PHASE(ACTIVE), ABORT, ABORT, FAILED),
        /* rollbacks */
        ROW(CONNECT, BACK, KIND(SESSION), COMMIT, QUERY, QUEUED),
        ROW(COMMIT, BACK, PHASE(NONE), COMMIT, ROLLBACK, QUEUED),
        ROW(COMMIT, BACK, PHASE(ROLLED_BACK), UNPLUG, UNPLUG, DONE),
        ROW(COMMIT, BACK, ERRS(DRIFT), UNPLUG, UNPLUG, REFUSED),
        ROW(COMMIT, BACK, PHASE(STAGED), COMMIT, NOTHING, QUEUED),
};

ParameterizedTestParameters(push_state, follows_the_table)
{
        return cr_make_param_array(struct row, rows, G_N_ELEMENTS(rows));
}

ParameterizedTest(struct row *r, push_state, follows_the_table)
{
        struct push_step s = push_transition(r->state, &r->facts, &r->input);

        cr_expect(eq(int, s.next, r->next), "%s: next is %s", push_state_name(r->state),
                  push_state_name(s.next));
        cr_expect(eq(int, s.action, r->action), "%s: action is %s", push_state_name(r->state),
                  push_do_name(s.action));
        cr_expect(eq(int, s.outcome, r->outcome));
}

Test(push_state, a_final_state_is_never_left)
{
        for (int state = PUSH_STATE_DONE; state < PUSH_STATE_MAX; state++)
                for (int kind = 0; kind < PUSH_INPUT_MAX; kind++)
                        for (int phase = 0; phase <= P(FAILED); phase++) {
                                struct push_facts f = {.outcome = (PushState)state};
                                struct push_input in = {(PushInputKind)kind, (Moult__TransactionPhase)phase,
                                                        MOULT_ERROR_IO, phase % 2};
                                struct push_step s = push_transition((PushState)state, &f, &in);

                                cr_assert(eq(int, s.next, state));
                                cr_assert(s.action == PUSH_DO_NOTHING || s.action == PUSH_DO_END);
                        }
}

/* What must hold for any step, whatever has come before. */
static void check_step(PushState state, const struct push_facts *f, const struct push_input *in,
                       const struct push_step *s)
{
        if (s->action == PUSH_DO_COMMIT)
                cr_assert(in->kind == PUSH_INPUT_PHASE && in->phase == P(STAGED) && !f->dry_run &&
                          !f->rollback);
        if (s->action == PUSH_DO_CONFIRM)
                cr_assert(in->kind == PUSH_INPUT_PHASE && in->phase == P(ACTIVE) && !f->dry_run);
        if (s->action == PUSH_DO_STAGE)
                cr_assert(state <= PUSH_STATE_CONFIRM && !f->dry_run && !f->rollback);
        if (s->action == PUSH_DO_PLUG)
                cr_assert(f->want_window && s->next == PUSH_STATE_PLUG);
        if (push_state_is_final(s->next) && s->next != state) {
                cr_assert(state == PUSH_STATE_UNPLUG || s->next == PUSH_STATE_CANCELLED);
                cr_assert(eq(int, s->action, PUSH_DO_END));
                cr_assert(eq(int, s->outcome, s->next));
        }
        if (s->next == PUSH_STATE_UNPLUG || s->next == PUSH_STATE_ABORT)
                cr_assert(push_state_is_final(s->outcome), "%s without an outcome", push_state_name(s->next));
        if (f->outcome != PUSH_STATE_QUEUED && s->outcome != f->outcome)
                cr_assert(state == PUSH_STATE_ABORT && (((in->phase == P(COMMITTED) || in->was_committed) &&
                                                         s->outcome == PUSH_STATE_DONE) ||
                                                        (in->phase == P(ROLLED_BACK) && f->switched &&
                                                         s->outcome == PUSH_STATE_ROLLED_BACK)),
                          "a decided outcome was changed");
        if (state == PUSH_STATE_UNPLUG)
                cr_assert(s->next == PUSH_STATE_UNPLUG || in->kind == PUSH_INPUT_UNPLUGGED);
}

Test(push_state, random_histories_keep_the_rules_and_can_always_end)
{
        g_autoptr(GRand) rand = g_rand_new_with_seed(20261122);
        guint ended = 0;

        for (int history = 0; history < 20000; history++) {
                struct push_facts f = {.dry_run = g_rand_int_range(rand, 0, 8) == 0,
                                       .want_window = g_rand_boolean(rand),
                                       .has_plan = g_rand_boolean(rand)};
                PushState state = PUSH_STATE_QUEUED;
                struct push_input last[] = {{.kind = PUSH_INPUT_START},
                                            {.kind = PUSH_INPUT_PLUG_FAILED, .error = MOULT_ERROR_IO},
                                            {.kind = PUSH_INPUT_PATIENCE_OVER},
                                            {.kind = PUSH_INPUT_PATIENCE_OVER},
                                            {.kind = PUSH_INPUT_UNPLUGGED}};

                f.rollback = !f.dry_run && g_rand_int_range(rand, 0, 8) == 0;
                f.want_window &= !f.rollback;
                f.need_window = f.want_window && g_rand_boolean(rand);
                for (int i = 0; i < 60 + (int)G_N_ELEMENTS(last); i++) {
                        struct push_input in = {
                                (PushInputKind)g_rand_int_range(rand, 0, PUSH_INPUT_MAX),
                                (Moult__TransactionPhase)g_rand_int_range(rand, 0, P(FAILED) + 1),
                                (MoultError)g_rand_int_range(rand, 0, MOULT_ERROR_MAX),
                                g_rand_int_range(rand, 0, 8) == 0};
                        struct push_step s;

                        f.asked |= push_input_asks(in.kind);
                        if (in.kind != PUSH_INPUT_PHASE)
                                in.phase = P(NONE);
                        if (i < 60 && in.kind == PUSH_INPUT_UNPLUGGED && g_rand_int_range(rand, 0, 4))
                                continue;
                        if (i >= 60) /* whatever happened: silence ends it */
                                in = last[i - 60];
                        s = push_transition(state, &f, &in);
                        check_step(state, &f, &in, &s);
                        if (push_do_is_command(s.action))
                                f.asked = FALSE;
                        f.steps += s.next != state;
                        state = s.next;
                        f.outcome = s.outcome;
                }
                ended += push_state_is_final(state);
        }
        cr_expect(eq(u32, ended, 20000));
}

Test(push_state, a_guest_that_goes_round_in_circles_fails_the_push_before_the_commit)
{
        struct push_facts f = {.steps = PUSH_STEPS_MAX};
        struct push_input planned = {.kind = PUSH_INPUT_PHASE, .phase = P(PLANNED)};
        struct push_input active = {.kind = PUSH_INPUT_PHASE, .phase = P(ACTIVE)};

        cr_expect(eq(int, push_transition(PUSH_STATE_PLAN, &f, &planned).next, PUSH_STATE_UNPLUG));
        cr_expect(eq(int, push_transition(PUSH_STATE_PLAN, &f, &planned).outcome, PUSH_STATE_FAILED));
        cr_expect(eq(int, push_transition(PUSH_STATE_COMMIT, &f, &active).next, PUSH_STATE_CONFIRM));
}

/* A guest that answers every command with the phase that asks for the same command, or that goes back and
 * forth between two phases, must not keep us busy: what it says gives one command, then the clock has to. */
Test(push_state, a_guest_cannot_make_us_repeat_ourselves)
{
        static const struct {
                PushState state;
                Moult__TransactionPhase phase;
                PushDo action;
        } cases[] = {
                {PUSH_STATE_STAGE, P(PLANNED), PUSH_DO_STAGE},
                {PUSH_STATE_COMMIT, P(STAGED), PUSH_DO_COMMIT},
                {PUSH_STATE_CONFIRM, P(ACTIVE), PUSH_DO_CONFIRM},
        };

        for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
                struct push_facts f = {0};
                struct push_input in = {.kind = PUSH_INPUT_PHASE, .phase = cases[i].phase};

                cr_expect(eq(int, push_transition(cases[i].state, &f, &in).action, PUSH_DO_NOTHING));
                f.asked = TRUE;
                cr_expect(eq(int, push_transition(cases[i].state, &f, &in).action, cases[i].action));
        }
}

Test(push_state, what_was_active_is_not_staged_again)
{
        struct push_facts f = {.asked = TRUE};

        for (int phase = P(PLANNING); phase <= P(COMMITTING); phase++) {
                struct push_input in = {.kind = PUSH_INPUT_PHASE, .phase = (Moult__TransactionPhase)phase};
                struct push_step s;

                f.complaints = 0;
                s = push_transition(PUSH_STATE_CONFIRM, &f, &in);
                cr_expect(eq(int, s.next, PUSH_STATE_CONFIRM));
                cr_expect(eq(int, s.action, PUSH_DO_NOTHING));
                f.complaints = PUSH_COMPLAINTS_MAX;
                s = push_transition(PUSH_STATE_CONFIRM, &f, &in);
                cr_expect(eq(int, s.outcome, PUSH_STATE_FAILED));
        }
}

Test(push_state, every_failure_of_ours_says_what_to_do)
{
        for (int state = PUSH_STATE_CONNECT; state <= PUSH_STATE_CONFIRM; state++) {
                struct push_facts f = {0};
                struct push_input in = {.kind = PUSH_INPUT_PATIENCE_OVER};
                struct push_step s = push_transition((PushState)state, &f, &in);

                if (state == PUSH_STATE_PLUG)
                        continue; /* the hypervisor has deadlines of its own */
                cr_assert(ne(ptr, (void *)s.text, NULL));
                cr_expect(eq(int, s.error, MOULT_ERROR_TIMEOUT));
        }
}
