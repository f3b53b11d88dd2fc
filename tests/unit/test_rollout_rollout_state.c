/* tests/unit/test_rollout_rollout_state.c - each rule of docs/rollout.md, on rows that are made up. */
#include "host-service/rollout/rollout_state.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(rollout_state, .timeout = 60);

static struct rollout_step next(const struct rollout_facts *f)
{
        struct rollout_step s = rollout_next(f);

        g_free(s.text);
        s.text = NULL;
        return s;
}

#define EXPECT(f, what, with_wave)                                                                           \
        do {                                                                                                 \
                struct rollout_step got = next(f);                                                           \
                cr_expect(eq(int, got.action, what));                                                        \
                cr_expect(eq(int, got.wave, with_wave));                                                     \
        } while (0)

Test(rollout_state, waves_are_opened_one_after_the_other)
{
        RolloutRecord r = {.wave = -1, .waves = 3};
        struct rollout_facts f = {.record = &r, .all = {.total = 6, .waiting = 6}};

        EXPECT(&f, ROLLOUT_DO_OPEN, 0);
        r.wave = 0;
        f.wave = (struct rollout_counts){.total = 2, .running = 1, .done = 1};
        EXPECT(&f, ROLLOUT_DO_NOTHING, 0);
        f.wave = (struct rollout_counts){.total = 2, .done = 2};
        EXPECT(&f, ROLLOUT_DO_OPEN, 1);
        r.wave = 2;
        EXPECT(&f, ROLLOUT_DO_END, 0);
        cr_expect(eq(int, next(&f).state, ROLLOUT_DONE));
}

Test(rollout_state, a_pause_is_between_waves_only)
{
        RolloutRecord r = {.wave = -1, .waves = 2, .pause_ms = 1000};
        struct rollout_facts f = {.record = &r, .now_us = 50};

        EXPECT(&f, ROLLOUT_DO_OPEN, 0);
        r.wave = 0;
        f.wave = (struct rollout_counts){.total = 1, .done = 1};
        EXPECT(&f, ROLLOUT_DO_PAUSE, 0);
        r.state = ROLLOUT_PAUSING;
        r.next_us = 51;
        EXPECT(&f, ROLLOUT_DO_WAIT, 0);
        r.next_us = 50;
        EXPECT(&f, ROLLOUT_DO_OPEN, 1);
        r.next_us = 50 + 1000 * 1000;
        EXPECT(&f, ROLLOUT_DO_WAIT, 0);
        r.next_us = 51 + 1000 * 1000; /* the clock was set back: nobody waits for it to come there again */
        EXPECT(&f, ROLLOUT_DO_PAUSE, 0);
        r.state = ROLLOUT_RUNNING;
        r.wave = 1;
        EXPECT(&f, ROLLOUT_DO_END, 0);
}

Test(rollout_state, one_failure_more_than_may_be_stops_in_the_middle_of_a_wave)
{
        RolloutRecord r = {.waves = 1, .max_failures = 2};
        struct rollout_facts f = {
                .record = &r,
                .all = {.total = 9, .failed = 1, .refused = 1, .unreachable = 3, .running = 4},
                .wave = {.running = 4}};

        EXPECT(&f, ROLLOUT_DO_NOTHING, 0);
        f.all.rolled_back = 1;
        EXPECT(&f, ROLLOUT_DO_STOP, 0);
        r.accepted = 3; /* resumed */
        EXPECT(&f, ROLLOUT_DO_NOTHING, 0);
        f.all.failed += 2;
        EXPECT(&f, ROLLOUT_DO_NOTHING, 0);
        f.all.failed += 1;
        EXPECT(&f, ROLLOUT_DO_STOP, 0);
}

Test(rollout_state, canaries_that_nobody_reached_stop_it_and_batches_do_not)
{
        RolloutRecord r = {.waves = 2, .canary = TRUE};
        struct rollout_facts f = {.record = &r, .wave = {.total = 2, .unreachable = 2}};

        EXPECT(&f, ROLLOUT_DO_STOP, 0);
        f.wave = (struct rollout_counts){.total = 2, .unreachable = 1, .done = 1};
        EXPECT(&f, ROLLOUT_DO_OPEN, 1);
        f.wave = (struct rollout_counts){.total = 2, .skipped = 2};
        EXPECT(&f, ROLLOUT_DO_OPEN, 1);
        r.canary = FALSE;
        f.wave = (struct rollout_counts){.total = 2, .unreachable = 2};
        EXPECT(&f, ROLLOUT_DO_OPEN, 1);
}

Test(rollout_state, a_wave_that_was_stopped_in_the_middle_is_opened_again)
{
        RolloutRecord r = {.wave = 1, .waves = 3};
        struct rollout_facts f = {.record = &r, .wave = {.total = 4, .waiting = 2, .done = 2}};

        EXPECT(&f, ROLLOUT_DO_OPEN, 1);
        r.state = ROLLOUT_STOPPED;
        EXPECT(&f, ROLLOUT_DO_NOTHING, 0);
        f.all.running = 1;
        EXPECT(&f, ROLLOUT_DO_HOLD_BACK, 0);
}

Test(rollout_state, an_abort_waits_for_what_runs_and_then_takes_back)
{
        RolloutRecord r = {.state = ROLLOUT_ABORTING, .waves = 3};
        struct rollout_facts f = {.record = &r, .all = {.total = 3, .running = 1, .done = 1, .cancelled = 1}};

        EXPECT(&f, ROLLOUT_DO_NOTHING, 0);
        f.all.running = 0;
        cr_expect(eq(int, next(&f).state, ROLLOUT_ABORTED));
        r.take_back = TRUE;
        EXPECT(&f, ROLLOUT_DO_TAKE_BACK, 0);
        r.state = ROLLOUT_ROLLING_BACK;
        f.rollback_unfinished = 1;
        EXPECT(&f, ROLLOUT_DO_NOTHING, 0);
        f.rollback_unfinished = 0;
        EXPECT(&f, ROLLOUT_DO_END, 0);
        cr_expect(eq(int, next(&f).state, ROLLOUT_ROLLED_BACK));
}

Test(rollout_state, final_states_are_left_alone)
{
        for (RolloutState s = ROLLOUT_DONE; s < ROLLOUT_STATE_MAX; s++) {
                RolloutRecord r = {.state = s, .waves = 3};
                struct rollout_facts f = {.record = &r, .all = {.failed = 9}};

                EXPECT(&f, ROLLOUT_DO_NOTHING, 0);
        }
}

static char *waves(guint total, guint canary, guint batch)
{
        GString *s = g_string_new(NULL);

        for (guint i = 0; i < total; i++)
                g_string_append_printf(s, "%u", rollout_wave_of(i, total, canary, batch));
        return g_string_free(s, FALSE);
}

Test(rollout_state, who_is_in_which_wave)
{
        static const struct {
                guint total, canary, batch;
                const char *waves;
        } cases[] = {
                {5, 0, 0, "00000"}, {5, 1, 0, "01111"}, {5, 2, 2, "00112"}, {5, 0, 2, "00112"},
                {5, 5, 0, "00000"}, {3, 9, 1, "000"},   {1, 1, 1, "0"},     {6, 1, 5, "011111"},
        };

        for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *got = waves(cases[i].total, cases[i].canary, cases[i].batch);

                cr_expect(eq(str, got, (char *)cases[i].waves), "%u", i);
        }
}

Test(rollout_state, sizes_of_batches)
{
        static const struct {
                const char *text;
                guint total, n; /* 0: refused */
        } cases[] = {
                {"1", 9, 1},      {"500", 9, 500}, {"50%", 9, 5}, {"1%", 9, 1},   {"100%", 9, 9},
                {"10%", 500, 50}, {"0", 9, 0},     {"0%", 9, 0},  {"101%", 9, 0}, {"", 9, 0},
                {"%", 9, 0},      {"-1", 9, 0},    {"1.5", 9, 0}, {"10 %", 9, 0}, {"10%%", 9, 0},
                {"+1", 9, 0},     {"x", 9, 0},
        };

        for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
                guint n = 0;

                cr_expect(eq(int, rollout_batch_parse(cases[i].text, cases[i].total, &n), cases[i].n > 0),
                          "%s", cases[i].text);
                cr_expect(eq(u32, n, cases[i].n), "%s", cases[i].text);
        }
}
