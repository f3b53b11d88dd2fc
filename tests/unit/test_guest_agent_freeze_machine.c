/* tests/unit/test_guest_agent_freeze_machine.c - the order of freezing and thawing, whatever the operations
 * do: they are a table here, and end when the test says so. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

#include "guest-agent/freeze_machine.h"

TestSuite(freeze_machine, .timeout = 30);

#define N     3u
#define LEASE (10 * G_USEC_PER_SEC)
#define START (1000 * G_USEC_PER_SEC)

struct bench {
        struct freeze_machine m;
        guint8 states[N];
        GString *log; /* "s0 s1 f0 t0": what was begun */
        char running[N];
        gint64 now;
};

static void note(struct bench *b, char what, guint i)
{
        g_string_append_printf(b->log, "%s%c%u", b->log->len ? " " : "", what, i);
        cr_expect(eq(chr, b->running[i], 0), "two operations on %u at once", i);
        b->running[i] = what;
}

static void op_sync(guint i, gpointer user)
{
        note(user, 's', i);
}

static void op_freeze(guint i, gpointer user)
{
        note(user, 'f', i);
}

static void op_thaw(guint i, gpointer user)
{
        note(user, 't', i);
}

static const struct freeze_ops ops = {op_sync, op_freeze, op_thaw};

static void end(struct bench *b, guint i, int error)
{
        cr_assert(ne(chr, b->running[i], 0), "nothing runs on %u", i);
        b->running[i] = 0;
        freeze_machine_done(&b->m, i, error, ++b->now);
}

static void start(struct bench *b, guint n)
{
        *b = (struct bench){.log = g_string_new(NULL), .now = START};
        freeze_machine_init(&b->m, b->states, n, LEASE, &ops, b);
        freeze_machine_begin(&b->m, b->now);
}

static void sync_all(struct bench *b)
{
        for (guint i = 0; i < b->m.n; i++)
                end(b, i, 0);
}

static void freeze_all(struct bench *b)
{
        start(b, N);
        sync_all(b);
        for (guint i = 0; i < N; i++)
                end(b, i, 0);
        cr_assert(eq(int, (int)b->m.phase, FREEZE_FROZEN));
        g_string_truncate(b->log, 0);
}

static void tick_at(struct bench *b, gint64 at)
{
        b->now = at;
        freeze_machine_tick(&b->m, b->now);
}

Test(freeze_machine, syncs_all_at_once_and_freezes_one_after_the_other)
{
        struct bench b;

        start(&b, N);
        cr_expect(eq(str, b.log->str, "s0 s1 s2"));
        end(&b, 1, EIO); /* the freeze will say so itself */
        end(&b, 0, 0);
        cr_expect(eq(i64, freeze_machine_frozen_us(&b.m, b.now), 0));
        end(&b, 2, 0);
        cr_expect(eq(str, b.log->str, "s0 s1 s2 f0"));
        end(&b, 0, 0);
        end(&b, 1, 0);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_FREEZING));
        end(&b, 2, 0);
        cr_expect(eq(str, b.log->str, "s0 s1 s2 f0 f1 f2"));
        cr_expect(eq(int, (int)b.m.phase, FREEZE_FROZEN));
        cr_expect(eq(uint, b.m.mounts, 3));
        cr_expect(eq(i64, freeze_machine_wake_us(&b.m), b.now + LEASE));
}

Test(freeze_machine, thaws_the_last_one_first_and_holds_if_it_was_asked)
{
        struct bench b;

        freeze_all(&b);
        gint64 begun = b.now;
        freeze_machine_thaw(&b.m, FREEZE_WHY_ASKED, b.now);
        end(&b, 2, 0);
        end(&b, 1, 0);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWING));
        end(&b, 0, 0);
        cr_expect(eq(str, b.log->str, "t2 t1 t0"));
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWED));
        cr_expect(eq(int, b.m.held, TRUE));
        cr_expect(eq(i64, freeze_machine_wake_us(&b.m), 0));
        cr_expect(ge(i64, freeze_machine_frozen_us(&b.m, b.now + 1000), b.now - begun));
}

Test(freeze_machine, the_lease_ends_it_and_renewing_moves_its_end)
{
        struct bench b;

        freeze_all(&b);
        tick_at(&b, b.now + LEASE - 1);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_FROZEN));
        cr_expect(eq(int, freeze_machine_renew(&b.m, LEASE, b.now), TRUE));
        tick_at(&b, b.now + LEASE - 1);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_FROZEN));
        tick_at(&b, b.now + 1);
        cr_expect(eq(str, b.log->str, "t2"));
        cr_expect(eq(int, (int)b.m.why, FREEZE_WHY_LEASE));
        cr_expect(eq(int, freeze_machine_renew(&b.m, LEASE, b.now), FALSE));
        freeze_machine_thaw(&b.m, FREEZE_WHY_ASKED, b.now); /* too late */
        for (guint i = N; i > 0; i--)
                end(&b, i - 1, 0);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWED));
        cr_expect(eq(int, b.m.held, FALSE));
}

Test(freeze_machine, one_that_somebody_else_froze_is_left_alone_and_the_rest_thawed)
{
        struct bench b;

        start(&b, N);
        sync_all(&b);
        end(&b, 0, 0);
        end(&b, 1, EBUSY);
        cr_expect(eq(str, b.log->str, "s0 s1 s2 f0 f1 t0"));
        end(&b, 0, 0);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWED));
        cr_expect(eq(int, (int)b.m.why, FREEZE_WHY_MOUNT));
        cr_expect(eq(uint, b.m.failed, 1));
        cr_expect(eq(int, b.m.failed_errno, EBUSY));
        cr_expect(eq(int, (int)b.states[1], FREEZE_MOUNT_THEIRS));
        cr_expect(eq(int, b.m.held, FALSE));
}

Test(freeze_machine, a_kind_that_cannot_be_frozen_is_passed_over)
{
        struct bench b;

        start(&b, N);
        sync_all(&b);
        end(&b, 0, EOPNOTSUPP);
        end(&b, 1, 0);
        end(&b, 2, 0);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_FROZEN));
        cr_expect(eq(uint, b.m.mounts, 2));
        freeze_machine_thaw(&b.m, FREEZE_WHY_ASKED, b.now);
        end(&b, 2, 0);
        end(&b, 1, 0);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWED));
        cr_expect(eq(int, b.m.held, TRUE));
}

Test(freeze_machine, nothing_that_can_be_frozen_is_no_freeze)
{
        struct bench b;

        start(&b, 0);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWED));
        cr_expect(eq(int, (int)b.m.why, FREEZE_WHY_NOTHING));
        start(&b, 1);
        sync_all(&b);
        end(&b, 0, EOPNOTSUPP);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWED));
        cr_expect(eq(int, (int)b.m.why, FREEZE_WHY_NOTHING));
        cr_expect(eq(int, b.m.held, FALSE));
}

Test(freeze_machine, a_freeze_that_hangs_does_not_keep_the_others_frozen)
{
        struct bench b;

        start(&b, N);
        sync_all(&b);
        end(&b, 0, 0);
        tick_at(&b, START + 2 * LEASE); /* f1 hangs */
        cr_expect(eq(str, b.log->str, "s0 s1 s2 f0 f1 t0"));
        cr_expect(eq(int, (int)b.m.why, FREEZE_WHY_HANGS));
        cr_expect(eq(uint, b.m.failed, 1));
        end(&b, 0, 0);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWING)); /* it is not over: f1 may still freeze */
        end(&b, 1, 0);
        cr_expect(eq(str, b.log->str, "s0 s1 s2 f0 f1 t0 t1"));
        end(&b, 1, 0);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWED));
        cr_expect(eq(int, b.m.held, FALSE));
}

Test(freeze_machine, a_sync_that_hangs_ends_it_with_nothing_frozen)
{
        struct bench b;

        start(&b, N);
        end(&b, 0, 0);
        tick_at(&b, START + FREEZE_SYNC_MAX_US);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWED));
        cr_expect(eq(int, (int)b.m.why, FREEZE_WHY_HANGS));
        cr_expect(eq(uint, b.m.failed, 1));
        cr_expect(eq(str, b.log->str, "s0 s1 s2"));
        end(&b, 1, 0);
        end(&b, 2, 0);
        cr_expect(eq(str, b.log->str, "s0 s1 s2")); /* and nothing is frozen afterwards */
}

Test(freeze_machine, a_thaw_that_hangs_keeps_the_others_for_a_moment_only)
{
        struct bench b;

        freeze_all(&b);
        freeze_machine_thaw(&b.m, FREEZE_WHY_ASKED, b.now);
        cr_expect(eq(i64, freeze_machine_wake_us(&b.m), b.now + FREEZE_PATIENCE_US));
        tick_at(&b, b.now + FREEZE_PATIENCE_US - 1);
        cr_expect(eq(str, b.log->str, "t2"));
        tick_at(&b, b.now + 1);
        cr_expect(eq(str, b.log->str, "t2 t1"));
        end(&b, 1, 0);
        end(&b, 0, 0);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWING));
        end(&b, 2, 0);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWED));
        cr_expect(eq(int, b.m.held, TRUE));
}

Test(freeze_machine, a_thaw_that_fails_is_tried_again_after_the_others)
{
        struct bench b;

        freeze_all(&b);
        freeze_machine_thaw(&b.m, FREEZE_WHY_ASKED, b.now);
        end(&b, 2, EIO);
        cr_expect(eq(str, b.log->str, "t2 t1"));
        end(&b, 1, 0);
        end(&b, 0, 0);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWING));
        tick_at(&b, freeze_machine_wake_us(&b.m));
        cr_expect(eq(str, b.log->str, "t2 t1 t0 t2"));
        end(&b, 2, 0);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWED));
}

Test(freeze_machine, one_that_was_thawed_by_somebody_else_did_not_hold)
{
        struct bench b;

        freeze_all(&b);
        freeze_machine_thaw(&b.m, FREEZE_WHY_ASKED, b.now);
        end(&b, 2, 0);
        end(&b, 1, EINVAL);
        end(&b, 0, EINVAL);
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWED));
        cr_expect(eq(int, b.m.held, FALSE));
        cr_expect(eq(int, (int)b.m.why, FREEZE_WHY_STOLEN));
        cr_expect(eq(uint, b.m.failed, 1));
}

Test(freeze_machine, giving_up_before_all_are_frozen_does_not_count_as_held)
{
        struct bench b;

        start(&b, N);
        sync_all(&b);
        end(&b, 0, 0);
        freeze_machine_thaw(&b.m, FREEZE_WHY_ASKED, b.now);
        end(&b, 0, 0);
        end(&b, 1, EIO); /* that was under way */
        cr_expect(eq(str, b.log->str, "s0 s1 s2 f0 f1 t0"));
        cr_expect(eq(int, (int)b.m.phase, FREEZE_THAWED));
        cr_expect(eq(int, b.m.held, FALSE));
}
