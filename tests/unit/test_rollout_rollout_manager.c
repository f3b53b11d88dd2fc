/* tests/unit/test_rollout_rollout_manager.c - whole rollouts in one process, over fake guests; the daemon
 * dies too. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <string.h>

#include "host-service/push/upgrade_request.h"
#include "host-service/rollout/rollout_add.h"
#include "proto/message.h"
#include "tests/support/push_world.h"

TestSuite(rollout_manager, .timeout = 110);

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x
#define MIB  (1024u * 1024u)

static void add_vms(World *w, guint n)
{
        for (guint i = 0; i < n; i++) {
                g_autofree char *name = g_strdup_printf("web-%u", i);

                world_add_vm(w, name, FALSE);
        }
}

static char *begin(World *w, const struct rollout_options *options)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) vms = catalogue_vm_select(w->catalogue, NULL, NULL);
        struct rollout_options o = *options;
        char *id;

        o.push.confirm_timeout_ms = 60000;
        id = rollout_add(w->env, w->catalogue, w->jobs, w->release, vms, &o, &error);
        cr_assert(ne(ptr, id, NULL), "%s", error ? error->message : "");
        return id;
}

struct wanted {
        const char *id;
        RolloutState state;
        guint running;
};

static gboolean is_in_state(World *w, gpointer user)
{
        const struct wanted *x = user;
        g_autoptr(RolloutRecord) r = catalogue_rollout_get(w->catalogue, x->id, NULL);
        struct rollout_counts n;

        cr_assert(catalogue_rollout_count(w->catalogue, x->id, -1, &n, NULL));
        return r->state == x->state && n.running == x->running;
}

/* Until it is in @state and nothing runs. */
static void run_until(World *w, const char *id, RolloutState state)
{
        struct wanted x = {id, state, 0};

        world_run(w, is_in_state, &x);
}

static struct rollout_counts counts(World *w, const char *id)
{
        struct rollout_counts n;

        cr_assert(catalogue_rollout_count(w->catalogue, id, -1, &n, NULL));
        return n;
}

static void expect_committed_once(World *w)
{
        for (guint i = 0; i < w->n_vms; i++)
                cr_expect(eq(u32, fake_agent_commits(w->vms[i].agent), 1), "%s", w->vms[i].name);
}

Test(rollout_manager, the_canary_comes_before_the_batches_and_each_before_the_next)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL;
        gint last[3] = {-1, -1, -1}, first[3] = {G_MAXINT, G_MAXINT, G_MAXINT};

        add_vms(w, 5);
        id = begin(w, &(struct rollout_options){.canary = 1, .batch = "2"});
        world_run_until_ended(w, id);
        cr_expect(eq(int, world_operation_state(w, id), OPERATION_SUCCEEDED));
        cr_expect(eq(u32, counts(w, id).done, 5));
        expect_committed_once(w);
        for (guint i = 0; i < 5; i++) {
                g_autoptr(PushRecord) r = world_record(w, id, w->vms[i].name);
                g_autofree char *begins = g_strdup_printf("%s offered", r->vm);
                g_autofree char *ends = g_strdup_printf("%s committed", r->vm);

                cr_assert(world_logged(w, begins) >= 0 && world_logged(w, ends) >= 0, "%s", r->vm);
                first[r->wave] = MIN(first[r->wave], world_logged(w, begins));
                last[r->wave] = MAX(last[r->wave], world_logged(w, ends));
        }
        cr_expect(last[0] < first[1]);
        cr_expect(last[1] < first[2]);
}

Test(rollout_manager, a_canary_that_fails_its_health_check_stops_it)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL;

        add_vms(w, 4);
        fake_agent_script(w->vms[0].agent)->end = P(ROLLED_BACK);
        id = begin(w, &(struct rollout_options){.canary = 1});
        run_until(w, id, ROLLOUT_STOPPED);
        cr_expect(eq(int, world_operation_state(w, id), OPERATION_RUNNING));
        cr_expect(eq(u32, counts(w, id).rolled_back, 1));
        cr_expect(eq(u32, counts(w, id).waiting, 3));
        for (guint i = 1; i < 4; i++)
                cr_expect(eq(u32, fake_agent_commits(w->vms[i].agent), 0));
        /* Somebody takes the responsibility. */
        cr_assert(rollout_resume(w->catalogue, id, NULL));
        world_run_until_ended(w, id);
        cr_expect(eq(int, world_operation_state(w, id), OPERATION_PARTIAL));
        cr_expect(eq(u32, counts(w, id).done, 3));
        cr_expect(eq(u32, counts(w, id).rolled_back, 1));
}

Test(rollout_manager, what_has_not_begun_when_it_stops_is_held_back)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL;

        w->config.concurrent = 1;
        world_kill_daemon(w);
        world_start_daemon(w);
        add_vms(w, 6);
        for (guint i = 0; i < 6; i++)
                fake_agent_script(w->vms[i].agent)->end = P(REFUSED);
        id = begin(w, &(struct rollout_options){.max_failures = 2});
        run_until(w, id, ROLLOUT_STOPPED);
        cr_expect(eq(u32, counts(w, id).refused, 3));
        cr_expect(eq(u32, counts(w, id).waiting, 3));
        cr_assert(rollout_resume(w->catalogue, id, NULL));
        run_until(w, id, ROLLOUT_STOPPED);
        cr_expect(eq(u32, counts(w, id).refused, 6));
        cr_assert(rollout_resume(w->catalogue, id, NULL));
        world_run_until_ended(w, id);
        cr_expect(eq(int, world_operation_state(w, id), OPERATION_FAILED));
}

Test(rollout_manager, stop_lets_finish_what_has_begun_and_resume_goes_on)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL;
        g_autoptr(GError) error = NULL;

        add_vms(w, 3);
        fake_agent_script(w->vms[0].agent)->hold_at = P(STAGING);
        id = begin(w, &(struct rollout_options){.batch = "1"});
        world_run_until_phase(w, &w->vms[0], P(STAGING));
        cr_assert(rollout_stop(w->catalogue, id, NULL));
        cr_expect(not(rollout_stop(w->catalogue, id, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE));
        fake_agent_go_on(w->vms[0].agent);
        run_until(w, id, ROLLOUT_STOPPED);
        cr_expect(eq(u32, counts(w, id).done, 1));
        cr_expect(eq(u32, counts(w, id).waiting, 2));
        cr_assert(rollout_resume(w->catalogue, id, NULL));
        world_run_until_ended(w, id);
        cr_expect(eq(int, world_operation_state(w, id), OPERATION_SUCCEEDED));
        expect_committed_once(w);
}

Test(rollout_manager, abort_with_rollback_takes_back_exactly_what_it_has_upgraded)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL;
        g_autoptr(RolloutRecord) r = NULL;
        g_autoptr(GPtrArray) back = NULL;

        add_vms(w, 3);
        fake_agent_script(w->vms[1].agent)->end = P(ROLLED_BACK);
        id = begin(w, &(struct rollout_options){.batch = "1"});
        run_until(w, id, ROLLOUT_STOPPED);
        cr_assert(rollout_abort(w->catalogue, id, TRUE, NULL));
        world_run_until_ended(w, id);
        cr_expect(eq(int, world_operation_state(w, id), OPERATION_CANCELLED));
        r = catalogue_rollout_get(w->catalogue, id, NULL);
        cr_expect(eq(int, r->state, ROLLOUT_ROLLED_BACK));
        cr_assert(ne(ptr, r->rollback, NULL));
        back = catalogue_push_list(w->catalogue, r->rollback, NULL);
        cr_assert(eq(u32, back->len, 1));
        cr_expect(eq(str, ((PushRecord *)back->pdata[0])->vm, "web-0"));
        cr_expect(eq(u64, ((PushRecord *)back->pdata[0])->options.rollback_generation, 7));
        cr_expect(eq(int, ((PushRecord *)back->pdata[0])->state, PUSH_STATE_DONE));
        cr_expect(eq(u32, counts(w, id).cancelled, 1));
}

Test(rollout_manager, abort_cancels_what_runs)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL;

        add_vms(w, 3);
        fake_agent_script(w->vms[0].agent)->hold_at = P(STAGING);
        id = begin(w, &(struct rollout_options){.canary = 1});
        world_run_until_phase(w, &w->vms[0], P(STAGING));
        cr_assert(jobs_cancel(w->jobs, id, NULL)); /* `moult jobs cancel` is an abort */
        world_run_until_ended(w, id);
        cr_expect(eq(int, world_operation_state(w, id), OPERATION_CANCELLED));
        cr_expect(eq(u32, counts(w, id).cancelled, 3));
        cr_expect(eq(u32, fake_agent_commits(w->vms[0].agent), 0));
}

Test(rollout_manager, vms_that_are_unreachable_removed_or_on_the_release_already)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *first = NULL, *id = NULL;
        VmRecord off = {.name = (char *)"web-off", .network = TRUE};

        w->config.patience_ms = 300;
        world_kill_daemon(w);
        world_start_daemon(w);
        add_vms(w, 4);
        cr_assert(catalogue_vm_add(w->catalogue, &off, NULL));
        first = world_push_one(w, "web-1");
        world_run_until_ended(w, first);
        fake_agent_script(w->vms[0].agent)->hold_at = P(STAGING);
        id = begin(w, &(struct rollout_options){.canary = 1});
        world_run_until_phase(w, &w->vms[0], P(STAGING));
        cr_assert(catalogue_vm_remove(w->catalogue, "web-2", NULL));
        cr_expect(not(catalogue_vm_remove(w->catalogue, "web-0", NULL)), "it is being pushed to");
        fake_agent_go_on(w->vms[0].agent);
        world_run_until_ended(w, id);
        cr_expect(eq(int, world_operation_state(w, id), OPERATION_PARTIAL));
        cr_expect(eq(u32, counts(w, id).done, 2));
        cr_expect(eq(u32, counts(w, id).skipped, 2));
        cr_expect(eq(u32, counts(w, id).unreachable, 1));
        world_expect_state(w, id, "web-1", PUSH_STATE_SKIPPED);
        world_expect_state(w, id, "web-2", PUSH_STATE_SKIPPED);
        cr_expect(eq(u32, fake_agent_commits(w->vms[1].agent), 1), "not a second time");
}

Test(rollout_manager, canaries_that_cannot_be_reached_stop_it)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL;
        VmRecord off = {.name = (char *)"a-off", .network = TRUE};

        w->config.patience_ms = 300;
        world_kill_daemon(w);
        world_start_daemon(w);
        cr_assert(catalogue_vm_add(w->catalogue, &off, NULL));
        add_vms(w, 2);
        id = begin(w, &(struct rollout_options){.canary = 1});
        run_until(w, id, ROLLOUT_STOPPED);
        cr_expect(eq(u32, counts(w, id).waiting, 2));
}

Test(rollout_manager, a_pause_goes_on_in_the_next_daemon)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL;

        add_vms(w, 2);
        id = begin(w, &(struct rollout_options){.batch = "1", .pause_ms = 24 * 3600 * 1000});
        run_until(w, id, ROLLOUT_PAUSING);
        world_kill_daemon(w);
        world_start_daemon(w);
        cr_expect(eq(u32, counts(w, id).waiting, 1));
        world_run_sql(w, "UPDATE rollouts SET next = 1"); /* the day is over */
        world_kill_daemon(w);
        world_start_daemon(w);
        world_run_until_ended(w, id);
        cr_expect(eq(int, world_operation_state(w, id), OPERATION_SUCCEEDED));
        expect_committed_once(w);
}

Test(rollout_manager, a_daemon_that_dies_in_each_wave_pushes_nothing_twice)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL;

        add_vms(w, 6);
        for (guint i = 0; i < 6; i++)
                fake_agent_script(w->vms[i].agent)->hold_at = i % 2 ? P(STAGING) : P(ACTIVE);
        id = begin(w, &(struct rollout_options){.canary = 1, .batch = "2"});
        for (guint i = 0; i < 6; i++) {
                world_run_until_phase(w, &w->vms[i], i % 2 ? P(STAGING) : P(ACTIVE));
                world_kill_daemon(w);
                fake_agent_go_on(w->vms[i].agent);
                world_start_daemon(w);
        }
        world_run_until_ended(w, id);
        cr_expect(eq(int, world_operation_state(w, id), OPERATION_SUCCEEDED));
        cr_expect(eq(u32, counts(w, id).done, 6));
        expect_committed_once(w);
}

Test(rollout_manager, a_guest_that_asks_itself_does_not_wait_for_its_wave)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL, *own = NULL;
        Moult__UpgradeRequest request = MOULT__UPGRADE_REQUEST__INIT;
        ProtobufCBinaryData path = message_bytes("etc/a");
        gboolean merged = TRUE;

        add_vms(w, 2);
        fake_agent_script(w->vms[0].agent)->hold_at = P(STAGING);
        id = begin(w, &(struct rollout_options){.canary = 1});
        world_run_until_phase(w, &w->vms[0], P(STAGING));
        request.paths = &path;
        request.n_paths = 1;
        own = upgrade_request_accept(w->env, w->catalogue, w->jobs, "web-1", &request, &merged, NULL);
        cr_assert(ne(ptr, own, NULL));
        cr_expect(not(merged));
        world_run_until_ended(w, own);
        world_expect_state(w, own, "web-1", PUSH_STATE_DONE);
        fake_agent_go_on(w->vms[0].agent);
        world_run_until_ended(w, id);
        world_expect_state(w, id, "web-1", PUSH_STATE_DONE);
}

Test(rollout_manager, no_more_bytes_are_staged_at_once_than_the_host_may)
{
        g_autoptr(World) w = world_new(MIB);
        g_autofree char *id = NULL;
        gint begins[2], ends[2];

        w->config.concurrent_bytes = 2 * MIB - 1;
        world_kill_daemon(w);
        world_start_daemon(w);
        add_vms(w, 2);
        id = begin(w, &(struct rollout_options){0});
        world_run_until_ended(w, id);
        for (guint i = 0; i < 2; i++) {
                g_autofree char *offered = g_strdup_printf("web-%u offered", i);
                g_autofree char *committed = g_strdup_printf("web-%u committed", i);

                begins[i] = world_logged(w, offered);
                ends[i] = world_logged(w, committed);
                cr_assert(begins[i] >= 0 && ends[i] >= 0);
        }
        cr_expect(begins[1] > ends[0] || begins[0] > ends[1], "one after the other");
}
