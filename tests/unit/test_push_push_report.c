/* tests/unit/test_push_push_report.c - what counts as getting on, and how long a guest may do without. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "host-service/push/push_report.h"
#include "proto/limits.h"

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x

static gboolean note(struct push_progress *best, Moult__TransactionPhase phase, guint64 bytes,
                     guint32 entries)
{
        Moult__TransactionState s = MOULT__TRANSACTION_STATE__INIT;

        s.phase = phase;
        s.bytes_done = bytes;
        s.entries_change = entries;
        return push_progress_note(best, &s);
}

Test(push_report, only_what_was_not_reached_before_is_progress)
{
        struct push_progress best = {0};

        cr_expect(note(&best, P(PLANNING), 0, 0));
        cr_expect(note(&best, P(PLANNED), 0, 5));
        cr_expect(note(&best, P(STAGING), 0, 5));
        cr_expect(not(note(&best, P(PLANNED), 0, 6)), "back, and forth");
        cr_expect(not(note(&best, P(STAGING), 0, 5)));
        cr_expect(note(&best, P(STAGING), 10, 5));
        cr_expect(not(note(&best, P(STAGING), 9, 9)));
        cr_expect(not(note(&best, P(STAGING), 10, 5)));
        cr_expect(note(&best, P(STAGING), 10, 6));
        cr_expect(note(&best, P(STAGED), 0, 0));
}

Test(push_report, hooks_and_the_confirmation_have_their_time)
{
        PushRecord r = {.state = PUSH_STATE_STAGE, .options = {.confirm_timeout_ms = 7000}};

        cr_expect(eq(i64, push_stall_us(&r, 1000), 1000000));
        r.state = PUSH_STATE_COMMIT;
        cr_expect(eq(i64, push_stall_us(&r, 1000), 8000000));
        r.hook = (char *)"check";
        cr_expect(eq(i64, push_stall_us(&r, 1000), 8000000 + (gint64)LIMIT_HOOK_TIMEOUT_MS * 1000));
}

Test(push_report, a_phase_is_over_when_nothing_more_will_happen)
{
        for (int phase = P(NONE); phase <= P(FAILED); phase++)
                cr_expect(eq(int, push_phase_is_over((Moult__TransactionPhase)phase),
                             phase == P(NONE) || phase == P(COMMITTED) || phase >= P(ROLLED_BACK)));
}

/* Seed 19476: a rollout that was aborted did not take such a push back: it seemed to have changed nothing. */
Test(push_report, what_is_told_out_of_the_history_leaves_the_numbers_that_are_known)
{
        PushRecord r = {.entries_total = 4, .entries_change = 3, .bytes_total = 50};
        Moult__TransactionState s = MOULT__TRANSACTION_STATE__INIT;

        s.phase = MOULT__TRANSACTION_PHASE__PHASE_COMMITTED;
        s.generation = 7;
        push_report_take(&r, &s);
        cr_expect(eq(u32, r.entries_change, 3));
        cr_expect(eq(u64, r.bytes_total, 50));
        cr_expect(eq(u64, r.generation, 7));
}
