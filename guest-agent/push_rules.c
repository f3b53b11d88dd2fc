/* guest-agent/push_rules.c - the table of commands and phases. */
#include "guest-agent/push_rules.h"

#include <stddef.h>

#define IN(phase) (1u << MOULT__TRANSACTION_PHASE__PHASE_##phase)
#define FINAL     (IN(COMMITTED) | IN(ROLLED_BACK) | IN(REFUSED) | IN(FAILED))
#define ALL       ((IN(FAILED) << 1) - 1)

static const struct rule {
        unsigned act, answer; /* phases; in the others it is too early */
} rules[] = {
        [MOULT__PUSH_ACTION__PUSH_QUERY] = {0, ALL},
        [MOULT__PUSH_ACTION__PUSH_STAGE] = {IN(PLANNED), IN(STAGING) | IN(STAGED) | IN(COMMITTING) |
                                                                 IN(ACTIVE) | IN(ROLLING_BACK) | FINAL},
        [MOULT__PUSH_ACTION__PUSH_COMMIT] = {IN(STAGED),
                                             IN(COMMITTING) | IN(ACTIVE) | IN(ROLLING_BACK) | FINAL},
        [MOULT__PUSH_ACTION__PUSH_CONFIRM] = {IN(ACTIVE), IN(ROLLING_BACK) | FINAL},
        [MOULT__PUSH_ACTION__PUSH_ABORT] = {IN(PLANNING) | IN(PLANNED) | IN(STAGING) | IN(STAGED) |
                                                    IN(COMMITTING) | IN(ACTIVE),
                                            IN(ROLLING_BACK) | FINAL},
        [MOULT__PUSH_ACTION__PUSH_SOURCES_CHANGED] = {IN(PLANNING) | IN(PLANNED) | IN(STAGING) |
                                                              IN(COMMITTING),
                                                      IN(STAGED) | IN(ACTIVE) | IN(ROLLING_BACK) | FINAL},
};

enum push_verdict push_rule(Moult__TransactionPhase phase, Moult__PushAction action)
{
        const struct rule *r = &rules[action];

        if (r->act & (1u << phase))
                return VERDICT_ACT;
        return r->answer & (1u << phase) ? VERDICT_ANSWER : VERDICT_WRONG_STATE;
}
