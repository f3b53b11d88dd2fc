/* tests/unit/test_guest_agent_successor.c - when an agent gives way, in every phase. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "guest-agent/successor.h"

TestSuite(successor, .timeout = 10);

/* Phases NONE, PLANNING, PLANNED, STAGING, STAGED, COMMITTING, ACTIVE, COMMITTED, ROLLING_BACK, ROLLED_BACK,
 * REFUSED, FAILED; -: not, r: after a rest, n: now. */
static const struct {
        gboolean replaced, working;
        const char *expected;
} cases[] = {
        {FALSE, FALSE, "------------"},
        {FALSE, TRUE, "------------"},
        {TRUE, FALSE, "n-----nr-rrr"},
        {TRUE, TRUE, "-------r-rrr"},
};

Test(successor, is_as_written_down)
{
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
                for (int phase = 0; phase < (int)strlen(cases[i].expected); phase++) {
                        enum successor_when when = successor_rule((Moult__TransactionPhase)phase,
                                                                  cases[i].replaced, cases[i].working);

                        cr_expect(eq(chr, "-rn"[when], cases[i].expected[phase]), "case %zu in phase %d", i,
                                  phase);
                }
}
