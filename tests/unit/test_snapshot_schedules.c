/* tests/unit/test_snapshot_schedules.c - schedules: what is due, missed, in the way, or fails. The clock is
 * the test's; who takes snapshots and prunes is played here. */
#include "host-service/snapshot/schedules.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "host-service/catalogue/event_log.h"
#include "host-service/catalogue/schedules.h"
#include "host-service/catalogue/vms.h"
#include "host-service/snapshot/schedule_time.h"
#include "tests/support/host_world.h"

TestSuite(schedules, .timeout = 60);

#define HOUR (G_TIME_SPAN_HOUR)

/* ---- timers that wait for the test's clock ---- */

struct waiting {
        GSource source;
        HostWorld *w;
        gint64 due_us;
};

static gboolean is_due(GSource *source)
{
        struct waiting *t = (struct waiting *)source;

        return t->w->monotonic_us >= t->due_us;
}

static gboolean prepare(GSource *source, gint *timeout)
{
        *timeout = -1;
        return is_due(source);
}

static gboolean dispatch(GSource *source, GSourceFunc func, gpointer user)
{
        return func(user);
}

static GSourceFuncs waiting_funcs = {prepare, is_due, dispatch, NULL, NULL, NULL};

static GSource *timer_new(gpointer self, guint delay_ms)
{
        struct waiting *t = (struct waiting *)g_source_new(&waiting_funcs, sizeof *t);

        t->w = self;
        t->due_us = t->w->monotonic_us + (gint64)delay_ms * 1000;
        return &t->source;
}

/* ---- a host with one VM ---- */

struct taker {
        guint snapshots, prunes;
        char *last, *request; /* the newest operation, and what it is to do */
        Jobs *jobs;
};

static void on_start(const OperationRecord *op, gpointer user)
{
        struct taker *t = user;

        *(g_str_equal(op->kind, "snapshot-create") ? &t->snapshots : &t->prunes) += 1;
        g_free(t->last);
        g_free(t->request);
        t->last = g_strdup(op->id);
        t->request = g_strdup(op->request);
}

static void on_resume(const OperationRecord *op, gpointer user)
{
        (void)op;
        (void)user;
}

static const struct job_kind create_kind = {"snapshot-create", on_start, on_resume, on_resume},
                             prune_kind = {"snapshot-prune", on_start, on_resume, on_resume};

typedef struct {
        HostWorld *w;
        struct host_clock_ops clock;
        GTimeZone *zone;
        Catalogue *c;
        SnapshotSchedules *s; /* these two: NULL while the daemon is down */
        struct taker t;
} Rig;

static void daemon_down(Rig *r)
{
        g_clear_pointer(&r->s, snapshot_schedules_free);
        if (r->t.jobs)
                jobs_quiet(r->t.jobs);
        g_clear_pointer(&r->t.jobs, jobs_free);
        g_clear_pointer(&r->c, catalogue_close);
}

static void daemon_up(Rig *r)
{
        r->c = host_world_catalogue(r->w);
        r->t.jobs = jobs_new(&r->w->env, r->c);
        jobs_register(r->t.jobs, &create_kind, &r->t);
        jobs_register(r->t.jobs, &prune_kind, &r->t);
        cr_assert(jobs_begin(r->t.jobs, NULL));
        r->s = snapshot_schedules_new(&r->w->env, r->c, r->t.jobs, r->zone);
        snapshot_schedules_begin(r->s);
}

/* As time goes by: by minutes, so that whoever waits for less is not late. */
static void pass(Rig *r, gint64 us)
{
        for (gint64 left = us; left > 0; left -= G_TIME_SPAN_MINUTE) {
                gint64 step = MIN(left, G_TIME_SPAN_MINUTE);

                r->w->wall_us += step;
                r->w->monotonic_us += step;
                host_world_settle(r->w);
        }
}

static Rig *rig_new(void)
{
        Rig *r = g_new0(Rig, 1);

        r->w = host_world_new();
        r->clock = *r->w->env.clock;
        r->clock.timer_new = timer_new;
        r->w->env.clock = &r->clock;
        r->w->wall_us = G_GINT64_CONSTANT(1772359200000000); /* 2026-03-01T10:00:00Z */
        r->zone = g_time_zone_new_utc();
        daemon_up(r);
        host_world_add_vm(r->c, "a");
        return r;
}

static void rig_free(Rig *r)
{
        daemon_down(r);
        host_world_free(r->w);
        g_time_zone_unref(r->zone);
        g_free(r->t.last);
        g_free(r->t.request);
        g_free(r);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rig, rig_free)

static void set(Rig *r, const char *vm, const char *options)
{
        ScheduleRecord s = {.vm = (char *)vm,
                            .every_us = 6 * HOUR,
                            .at_minute = -1,
                            .options = (char *)options,
                            .since_us = r->w->wall_us};

        s.next_us = schedule_next(&s, s.since_us, r->zone);
        cr_assert(catalogue_schedule_set(r->c, &s, NULL));
}

static void finish(Rig *r, OperationState state)
{
        g_autoptr(GError) why =
                state == OPERATION_FAILED ? g_error_new(MOULT_ERROR, MOULT_ERROR_IO, "no room") : NULL;

        jobs_finish(r->t.jobs, r->t.last, state, NULL, why);
        pass(r, G_USEC_PER_SEC);
}

static ScheduleRecord *get(Rig *r)
{
        ScheduleRecord *s = catalogue_schedule_get(r->c, "a", NULL);

        cr_assert(s != NULL);
        return s;
}

/* ---- what is promised ---- */

Test(schedules, a_snapshot_is_taken_each_period_and_pruned_after_it)
{
        g_autoptr(Rig) r = rig_new();

        set(r, "a", "{\"quiesce\":false,\"keep_daily\":7}");
        pass(r, 6 * HOUR - G_TIME_SPAN_MINUTE);
        cr_expect(eq(u32, r->t.snapshots, 0));
        pass(r, 2 * G_TIME_SPAN_MINUTE);
        cr_assert(eq(u32, r->t.snapshots, 1));
        cr_expect(ne(ptr, strstr(r->t.request, "\"quiesce\":false"), NULL), "%s", r->t.request);
        cr_expect(eq(u32, r->t.prunes, 0));
        finish(r, OPERATION_SUCCEEDED);
        cr_assert(eq(u32, r->t.prunes, 1));
        cr_expect(ne(ptr, strstr(r->t.request, "\"keep_daily\":7"), NULL), "%s", r->t.request);
        g_autoptr(ScheduleRecord) between = get(r);
        cr_expect(between->operation && !between->last_us, "it is over when the old ones have gone");
        finish(r, OPERATION_SUCCEEDED);
        g_autoptr(ScheduleRecord) s = get(r);
        cr_expect(s->last_ok && s->last_us && !s->operation && s->failures == 0);
        pass(r, 6 * HOUR);
        cr_expect(eq(u32, r->t.snapshots, 2));
}

Test(schedules, what_was_missed_is_made_up_for_once)
{
        g_autoptr(Rig) r = rig_new();

        set(r, "a", "{}");
        daemon_down(r);
        r->w->wall_us += 40 * HOUR; /* six of them */
        daemon_up(r);
        pass(r, G_TIME_SPAN_MINUTE);
        cr_expect(eq(u32, r->t.snapshots, 1));
        finish(r, OPERATION_SUCCEEDED);
        pass(r, HOUR);
        cr_expect(eq(u32, r->t.snapshots, 1));
        pass(r, HOUR); /* the 42nd: when it would have been anyway */
        cr_expect(eq(u32, r->t.snapshots, 2));
}

Test(schedules, while_one_is_under_way_no_other_begins_also_over_a_restart)
{
        g_autoptr(Rig) r = rig_new();

        set(r, "a", "{}");
        pass(r, 13 * HOUR); /* it waits for its turn, say */
        cr_expect(eq(u32, r->t.snapshots, 1));
        daemon_down(r);
        daemon_up(r);
        pass(r, HOUR);
        cr_expect(eq(u32, r->t.snapshots, 1));
        finish(r, OPERATION_SUCCEEDED);
        cr_expect(eq(u32, r->t.snapshots, 2), "the one that was due meanwhile");
}

Test(schedules, a_failure_is_seen_and_nothing_is_pruned_for_it)
{
        g_autoptr(Rig) r = rig_new();
        gint64 before;

        set(r, "a", "{\"keep_last\":1}");
        for (guint i = 0; i < 2; i++) {
                pass(r, 6 * HOUR + G_TIME_SPAN_MINUTE);
                before = catalogue_event_last(r->c);
                finish(r, OPERATION_FAILED);
        }
        cr_expect(eq(u32, r->t.snapshots, 2));
        cr_expect(eq(u32, r->t.prunes, 0));
        g_autofree char *events = host_world_events(r->c, before);
        cr_expect(ne(ptr, strstr(events, "schedule.failed"), NULL), "%s", events);
        g_autoptr(ScheduleRecord) s = get(r);
        cr_expect(eq(u32, s->failures, 2));
        cr_expect(ne(ptr, strstr(s->last_text, "no room"), NULL), "%s", s->last_text);
        pass(r, 6 * HOUR);
        finish(r, OPERATION_SUCCEEDED);
        finish(r, OPERATION_FAILED); /* of the prune */
        g_autoptr(ScheduleRecord) pruned = get(r);
        cr_expect(eq(u32, pruned->failures, 3));
        cr_expect(ne(ptr, strstr(pruned->last_text, "snapshot-prune"), NULL), "%s", pruned->last_text);
}

Test(schedules, only_some_are_under_way_at_once)
{
        g_autoptr(Rig) r = rig_new();

        set(r, "a", "{}");
        for (guint i = 0; i < 6; i++) {
                g_autofree char *vm = g_strdup_printf("vm-%u", i);

                host_world_add_vm(r->c, vm);
                set(r, vm, "{}");
        }
        pass(r, 6 * HOUR + G_TIME_SPAN_MINUTE);
        cr_expect(eq(u32, r->t.snapshots, SCHEDULES_AT_ONCE));
        finish(r, OPERATION_SUCCEEDED);
        cr_expect(eq(u32, r->t.snapshots, SCHEDULES_AT_ONCE + 1));
}

Test(schedules, a_clock_that_is_put_forward_is_noticed)
{
        g_autoptr(Rig) r = rig_new();

        set(r, "a", "{}");
        pass(r, G_TIME_SPAN_MINUTE);
        r->w->wall_us += 7 * HOUR;
        pass(r, 2 * G_TIME_SPAN_MINUTE);
        cr_expect(eq(u32, r->t.snapshots, 1));
}

Test(schedules, one_that_is_taken_away_or_whose_vm_goes_takes_no_more)
{
        g_autoptr(Rig) r = rig_new();
        g_autoptr(GError) error = NULL;

        set(r, "a", "{}");
        cr_assert(catalogue_schedule_remove(r->c, "a", NULL));
        cr_expect(not(catalogue_schedule_remove(r->c, "a", &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND));
        pass(r, 7 * HOUR);
        cr_expect(eq(u32, r->t.snapshots, 0));
        set(r, "a", "{}");
        cr_assert(catalogue_vm_remove(r->c, "a", NULL));
        g_autoptr(GPtrArray) none = catalogue_schedule_list(r->c, NULL);
        cr_expect(eq(u32, none->len, 0));
}
