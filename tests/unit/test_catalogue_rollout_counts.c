/* tests/unit/test_catalogue_rollout_counts.c - what is kept of a rollout's counts is what its rows say. */
#include "host-service/catalogue/rollout_counts.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "host-service/jobs/jobs.h"
#include "tests/support/host_world.h"

TestSuite(rollout_counts, .timeout = 60);

#define VMS   12u
#define WAVES 3u

typedef struct {
        HostWorld *w;
        Catalogue *c;
        Jobs *jobs;
        char *id;
} World;

static World *world_new(void)
{
        World *w = g_new0(World, 1);

        w->w = host_world_new();
        w->c = host_world_catalogue(w->w);
        w->jobs = jobs_new(&w->w->env, w->c);
        w->id = jobs_add(w->jobs, "rollout", "{}", NULL);
        for (guint i = 0; i < VMS; i++) {
                g_autofree char *vm = g_strdup_printf("vm-%u", i);
                PushRecord p = {.operation = w->id, .vm = vm, .wave = i % WAVES, .held_back = TRUE};

                memset(p.push_id, (int)i + 1, sizeof p.push_id);
                cr_assert(catalogue_push_add(w->c, &p, NULL));
        }
        return w;
}

static void world_free(World *w)
{
        jobs_free(w->jobs);
        catalogue_close(w->c);
        host_world_free(w->w);
        g_free(w->id);
        g_free(w);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

static struct rollout_counts count(World *w, int wave)
{
        struct rollout_counts n;

        cr_assert(catalogue_rollout_count(w->c, w->id, wave, &n, NULL));
        return n;
}

/* What is kept, and what the rows say. Leaves them kept, so that what comes next has to move them. */
static void expect_same(World *w)
{
        struct rollout_counts kept[WAVES + 2];

        for (int wave = -1; wave <= (int)WAVES; wave++)
                kept[wave + 1] = count(w, wave);
        rollout_counts_forget(w->c);
        for (int wave = -1; wave <= (int)WAVES; wave++) {
                struct rollout_counts rows = count(w, wave), *k = &kept[wave + 1];

                cr_expect(memcmp(k, &rows, sizeof rows) == 0,
                          "wave %d: total %u/%u waiting %u/%u running %u/%u failed %u/%u unreachable %u/%u "
                          "failing %u/%u done %u/%u",
                          wave, k->total, rows.total, k->waiting, rows.waiting, k->running, rows.running,
                          k->failed, rows.failed, k->unreachable, rows.unreachable, k->failing, rows.failing,
                          k->done, rows.done);
        }
}

static void set(World *w, guint i, PushState state, PushState outcome, gboolean begun)
{
        g_autofree char *vm = g_strdup_printf("vm-%u", i);
        g_autoptr(PushRecord) p = catalogue_push_get(w->c, w->id, vm, NULL);

        p->state = state;
        p->outcome = outcome;
        p->begun = begun;
        p->wave = 99; /* these two are not of the caller */
        p->held_back = TRUE;
        cr_assert(catalogue_push_update(w->c, p, NULL));
}

Test(rollout_counts, every_way_of_a_push_moves_them)
{
        static const PushState ends[] = {PUSH_STATE_DONE,    PUSH_STATE_ROLLED_BACK, PUSH_STATE_REFUSED,
                                         PUSH_STATE_SKIPPED, PUSH_STATE_CANCELLED,   PUSH_STATE_FAILED};
        g_autoptr(World) w = world_new();

        cr_expect(eq(u32, count(w, -1).waiting, VMS));
        cr_expect(eq(u32, count(w, 1).waiting, VMS / WAVES));
        for (int wave = 0; wave < (int)WAVES; wave++) {
                cr_assert(catalogue_rollout_let_begin(w->c, w->id, wave, NULL));
                expect_same(w);
        }
        cr_expect(eq(u32, count(w, -1).running, VMS));
        for (guint i = 0; i < G_N_ELEMENTS(ends); i++) {
                set(w, i, PUSH_STATE_CONNECT, PUSH_STATE_QUEUED, FALSE);
                expect_same(w);
                set(w, i, PUSH_STATE_OFFER, PUSH_STATE_QUEUED, TRUE);
                expect_same(w);
                set(w, i, PUSH_STATE_UNPLUG, ends[i], TRUE);
                expect_same(w);
                set(w, i, ends[i], ends[i], TRUE);
                expect_same(w);
        }
        set(w, 6, PUSH_STATE_FAILED, PUSH_STATE_FAILED, FALSE);
        expect_same(w);
        set(w, 7, PUSH_STATE_FAILED, PUSH_STATE_FAILED, TRUE); /* begun in the same step */
        expect_same(w);
        cr_expect(eq(u32, count(w, -1).unreachable, 1));
        cr_expect(eq(u32, count(w, -1).failed, 2));
        cr_expect(eq(u32, count(w, -1).done, 1));
        cr_expect(eq(u32, count(w, 0).total, VMS / WAVES));
}

Test(rollout_counts, what_is_held_back_again_and_ends_so_is_counted)
{
        g_autoptr(World) w = world_new();
        g_autoptr(GPtrArray) vms = g_ptr_array_new();

        expect_same(w);
        cr_assert(catalogue_rollout_let_begin(w->c, w->id, 0, NULL));
        expect_same(w);
        g_ptr_array_add(vms, (gpointer) "vm-0");
        g_ptr_array_add(vms, (gpointer) "vm-3");
        cr_assert(catalogue_rollout_hold_back(w->c, w->id, vms, NULL));
        cr_expect(eq(u32, count(w, 0).waiting, 2));
        expect_same(w);
        cr_assert(catalogue_push_end_held_back(w->c, w->id, "vm-0", PUSH_STATE_SKIPPED,
                                               MOULT_ERROR_UNSPECIFIED, "why", NULL));
        cr_expect(eq(u32, count(w, 0).skipped, 1));
        expect_same(w);
        cr_assert(catalogue_rollout_cancel_waiting(w->c, w->id, "why", NULL));
        expect_same(w);
}

/* What the disk did not take was not so. */
Test(rollout_counts, a_transaction_that_is_undone_is_not_counted)
{
        g_autoptr(World) w = world_new();
        guint64 tally;

        expect_same(w);
        tally = catalogue_rollout_tally(w->c);
        cr_assert(catalogue_begin(w->c, NULL));
        cr_assert(catalogue_rollout_let_begin(w->c, w->id, 0, NULL));
        set(w, 0, PUSH_STATE_DONE, PUSH_STATE_DONE, TRUE);
        cr_expect(eq(u32, count(w, -1).done, 1));
        catalogue_rollback(w->c);
        cr_expect(eq(u32, count(w, -1).done, 0));
        cr_expect(eq(u32, count(w, -1).waiting, VMS));
        expect_same(w);
        cr_expect(ne(u64, catalogue_rollout_tally(w->c), tally));
}

/* More operations than are kept. */
Test(rollout_counts, those_of_many_operations_are_told)
{
        g_autoptr(World) w = world_new();

        for (guint i = 0; i < 40; i++) {
                g_autofree char *id = jobs_add(w->jobs, "rollout", "{}", NULL);
                struct rollout_counts n;

                cr_assert(catalogue_rollout_count(w->c, id, -1, &n, NULL));
                cr_expect(eq(u32, n.total, 0));
                cr_expect(eq(u32, count(w, -1).total, VMS));
        }
}
