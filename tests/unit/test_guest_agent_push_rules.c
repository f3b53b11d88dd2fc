/* tests/unit/test_guest_agent_push_rules.c - every command in every phase, written down once more. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "guest-agent/push_rules.h"

TestSuite(push_rules, .timeout = 10);

/* Phases NONE, PLANNING, PLANNED, STAGING, STAGED, COMMITTING, ACTIVE, COMMITTED, ROLLING_BACK, ROLLED_BACK,
 * REFUSED, FAILED; a: answer, !: act, w: wrong state. */
static const char *const expected[] = {
        [MOULT__PUSH_ACTION__PUSH_QUERY] = "aaaaaaaaaaaa",
        [MOULT__PUSH_ACTION__PUSH_STAGE] = "ww!aaaaaaaaa",
        [MOULT__PUSH_ACTION__PUSH_COMMIT] = "wwww!aaaaaaa",
        [MOULT__PUSH_ACTION__PUSH_CONFIRM] = "wwwwww!aaaaa",
        [MOULT__PUSH_ACTION__PUSH_ABORT] = "w!!!!!!aaaaa",
        [MOULT__PUSH_ACTION__PUSH_SOURCES_CHANGED] = "w!!!a!aaaaaa",
};

Test(push_rules, are_as_written_down)
{
        for (int action = 0; action < (int)(sizeof expected / sizeof *expected); action++)
                for (int phase = 0; phase < (int)strlen(expected[action]); phase++) {
                        enum push_verdict v =
                                push_rule((Moult__TransactionPhase)phase, (Moult__PushAction)action);
                        char got = v == VERDICT_ANSWER ? 'a' : v == VERDICT_ACT ? '!' : 'w';

                        cr_expect(eq(chr, got, expected[action][phase]), "action %d in phase %d", action,
                                  phase);
                }
}

Test(push_rules, nothing_acts_on_a_push_that_is_over)
{
        static const Moult__TransactionPhase final[] = {
                MOULT__TRANSACTION_PHASE__PHASE_COMMITTED, MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK,
                MOULT__TRANSACTION_PHASE__PHASE_REFUSED, MOULT__TRANSACTION_PHASE__PHASE_FAILED};

        for (size_t i = 0; i < sizeof final / sizeof *final; i++)
                for (int action = 0; action <= MOULT__PUSH_ACTION__PUSH_SOURCES_CHANGED; action++)
                        cr_expect(
                                eq(int, (int)push_rule(final[i], (Moult__PushAction)action), VERDICT_ANSWER));
}
