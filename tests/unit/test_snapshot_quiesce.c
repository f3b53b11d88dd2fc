/* tests/unit/test_snapshot_quiesce.c - a freeze from the host's side, against guests that are slow, busy,
 * gone, or lie. */
#include "host-service/snapshot/quiesce.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "tests/support/host_world.h"

TestSuite(quiesce, .timeout = 60);

#define PHASE(x) MOULT__FREEZE_PHASE__FREEZE_PHASE_##x

/* One answer: a phase; or an error. */
struct answer {
        Moult__FreezePhase phase;
        gboolean held;
        MoultError error; /* not UNSPECIFIED: this in place of a state */
};

struct rig {
        HostWorld *world;
        struct guest_view view;
        Quiesce *q;
        gboolean connected, freezes;
        const struct answer *answers; /* the last one again and again */
        guint n_answers, asked, begins, thaws;
        guint begun, ended;
        MoultError begun_error;
        gboolean held;
        char why[200];
        gint64 late_us; /* each answer takes that long */
};

static void status(gpointer self, const char *vm, struct guest_status *ret)
{
        const struct rig *r = self;

        *ret = (struct guest_status){.connected = r->connected, .freezes = r->freezes};
}

static void ask(gpointer self, const char *vm, const Moult__Message *question, gsize answer_bytes,
                guint timeout_ms, guest_answer_func done, gpointer user)
{
        struct rig *r = self;
        const struct answer *a = &r->answers[MIN(r->asked, r->n_answers - 1)];
        Moult__FreezeState state = MOULT__FREEZE_STATE__INIT;
        Moult__Message m = MOULT__MESSAGE__INIT;
        g_autoptr(GError) error = NULL;

        r->asked++;
        r->begins += question->freeze->action == MOULT__FREEZE_ACTION__FREEZE_BEGIN;
        r->thaws += question->freeze->action == MOULT__FREEZE_ACTION__FREEZE_THAW;
        r->world->monotonic_us += r->late_us;
        if (a->error != MOULT_ERROR_UNSPECIFIED) {
                error = g_error_new_literal(MOULT_ERROR, (gint)a->error, "no");
                done(NULL, error, user);
                return;
        }
        state.phase = a->phase;
        state.held = a->held;
        state.frozen_us = 7;
        state.hooks_run = 2;
        m.body_case = MOULT__MESSAGE__BODY_FREEZE_STATE;
        m.freeze_state = &state;
        done(&m, NULL, user);
}

static const struct guest_view_ops ops = {.status = status, .ask = ask};

static void on_begun(const GError *error, gpointer user)
{
        struct rig *r = user;

        r->begun++;
        r->begun_error = error ? moult_error_code(error) : MOULT_ERROR_UNSPECIFIED;
        g_strlcpy(r->why, error ? error->message : "", sizeof r->why);
}

static void on_ended(const struct quiesce_result *result, gpointer user)
{
        struct rig *r = user;

        r->ended++;
        r->held = result->held;
        g_strlcpy(r->why, result->why ? result->why : "", sizeof r->why);
        if (result->held) {
                cr_expect(eq(i64, result->frozen_us, 7));
                cr_expect(eq(u32, result->hooks, 2));
        }
}

static void rig_up(struct rig *r, const struct answer *answers, guint n)
{
        *r = (struct rig){.world = host_world_new(),
                          .connected = TRUE,
                          .freezes = TRUE,
                          .answers = answers,
                          .n_answers = n};
        r->view = (struct guest_view){.ops = &ops, .self = r};
        r->q = quiesce_new(&r->world->env, &r->view, "a");
}

static void rig_down(struct rig *r)
{
        quiesce_free(r->q);
        host_world_free(r->world);
}

/* Timers are real and short; the clock that deadlines are compared with is the test's. */
static void begin(struct rig *r)
{
        quiesce_begin(r->q, on_begun, r);
        while (!r->begun)
                g_main_context_iteration(r->world->env.context, TRUE);
        cr_expect(eq(u32, r->begun, 1));
}

static void end(struct rig *r)
{
        quiesce_end(r->q, on_ended, r);
        while (!r->ended)
                g_main_context_iteration(r->world->env.context, TRUE);
        cr_expect(eq(u32, r->ended, 1));
}

Test(quiesce, a_guest_is_frozen_and_says_that_it_held)
{
        const struct answer answers[] = {{.phase = PHASE(HOOKS)},
                                         {.phase = PHASE(FREEZING)},
                                         {.phase = PHASE(FROZEN)},
                                         {.phase = PHASE(THAWING)},
                                         {.phase = PHASE(THAWED), .held = TRUE}};
        struct rig r;

        rig_up(&r, answers, G_N_ELEMENTS(answers));
        begin(&r);
        cr_expect(eq(int, (int)r.begun_error, MOULT_ERROR_UNSPECIFIED));
        cr_expect(eq(u32, r.thaws, 0));
        end(&r);
        cr_expect(r.held);
        cr_expect(eq(u32, r.thaws, 2), "it is asked until it has thawed");
        rig_down(&r);
}

Test(quiesce, a_freeze_that_did_not_hold_is_not_said_to_have)
{
        const struct answer thawed[] = {{.phase = PHASE(FROZEN)}, {.phase = PHASE(THAWED)}};
        const struct answer forgotten[] = {{.phase = PHASE(FROZEN)}, {.phase = PHASE(NONE)}};
        struct rig r;

        rig_up(&r, thawed, 2);
        begin(&r);
        end(&r);
        cr_expect(not(r.held));
        rig_down(&r);
        rig_up(&r, forgotten, 2);
        begin(&r);
        end(&r);
        cr_expect(not(r.held));
        cr_expect(strstr(r.why, "restarted") != NULL);
        rig_down(&r);
}

Test(quiesce, a_guest_that_is_busy_is_asked_again_and_one_that_refuses_is_not)
{
        const struct answer busy[] = {
                {.error = MOULT_ERROR_BUSY}, {.error = MOULT_ERROR_BUSY}, {.phase = PHASE(FROZEN)}};
        const struct answer refuses[] = {{.error = MOULT_ERROR_HOOK}, {.phase = PHASE(FROZEN)}};
        struct rig r;

        rig_up(&r, busy, G_N_ELEMENTS(busy));
        begin(&r);
        cr_expect(eq(int, (int)r.begun_error, MOULT_ERROR_UNSPECIFIED));
        cr_expect(eq(u32, r.begins, 3));
        rig_down(&r);
        rig_up(&r, refuses, G_N_ELEMENTS(refuses));
        begin(&r);
        cr_expect(eq(int, (int)r.begun_error, MOULT_ERROR_HOOK));
        cr_expect(eq(u32, r.begins, 1));
        cr_expect(eq(u32, r.thaws, 1), "it may freeze yet");
        rig_down(&r);
}

Test(quiesce, one_that_never_freezes_is_told_to_thaw)
{
        const struct answer slow[] = {{.phase = PHASE(FREEZING)}};
        const struct answer silent[] = {{.error = MOULT_ERROR_TIMEOUT}};
        struct rig r;

        rig_up(&r, slow, 1);
        r.late_us = 11 * G_USEC_PER_SEC;
        begin(&r);
        cr_expect(eq(int, (int)r.begun_error, MOULT_ERROR_TIMEOUT));
        cr_expect(eq(u32, r.thaws, 1));
        rig_down(&r);
        rig_up(&r, silent, 1);
        r.late_us = 11 * G_USEC_PER_SEC;
        begin(&r);
        cr_expect(eq(int, (int)r.begun_error, MOULT_ERROR_TIMEOUT));
        rig_down(&r);
}

Test(quiesce, one_that_does_not_say_that_it_has_thawed_is_not_waited_for_for_ever)
{
        const struct answer stuck[] = {{.phase = PHASE(FROZEN)}, {.phase = PHASE(THAWING)}};
        const struct answer gone[] = {{.phase = PHASE(FROZEN)}, {.error = MOULT_ERROR_TIMEOUT}};
        struct rig r;

        rig_up(&r, stuck, 2);
        begin(&r);
        r.late_us = 11 * G_USEC_PER_SEC;
        end(&r);
        cr_expect(not(r.held));
        rig_down(&r);
        rig_up(&r, gone, 2);
        begin(&r);
        r.late_us = 11 * G_USEC_PER_SEC;
        end(&r);
        cr_expect(not(r.held));
        rig_down(&r);
}

Test(quiesce, a_guest_that_cannot_is_not_asked)
{
        const struct answer frozen[] = {{.phase = PHASE(FROZEN)}};
        struct rig r;

        rig_up(&r, frozen, 1);
        r.freezes = FALSE;
        begin(&r);
        cr_expect(eq(int, (int)r.begun_error, MOULT_ERROR_UNSUPPORTED));
        cr_expect(strstr(r.why, "older") != NULL);
        cr_expect(eq(u32, r.asked, 0));
        rig_down(&r);
        rig_up(&r, frozen, 1);
        r.connected = r.freezes = FALSE;
        begin(&r);
        cr_expect(strstr(r.why, "no agent") != NULL);
        rig_down(&r);
}
