/* guest-agent/push.c - steps to the worker, timers, what changes. Requests are in push_requests.c. */
#include "guest-agent/push_private.h"

#include <string.h>

#include "common/error.h"
#include "common/events.h"
#include "guest-agent/memory.h"
#include "guest-agent/past.h"
#include "guest-agent/push_log.h"
#include "guest-agent/push_rules.h"
#include "guest-agent/stale_answers.h"
#include "guest-agent/successor.h"
#include "proto/limits.h"

/* How long the plan of a push that is over can still be asked for. */
#define LINGER_S 60
/* Between two tries to record a confirmation. */
#define CONFIRM_RETRY_S 1

typedef void (*step_func)(Operation *op, const GError *why);

struct step {
        Pushes *ps;
        Operation *op;
        step_func func;
        unsigned asked;
        GError *why;
};

static void arm_timer(Pushes *ps);
static void look_for_successor(Pushes *ps);
static void arm_retry(Pushes *ps);

/* ---- steps ---- */

static void step_run(gpointer job)
{
        struct step *s = job;

        s->func(s->op, s->why);
}

static void step_confirm(Operation *op, const GError *why)
{
        operation_confirm(op);
}

static void step_done(gpointer job)
{
        struct step *s = job;
        Pushes *ps = s->ps;

        if (s->op == ps->current) {
                ps->steps--;
                ps->asked &= ~s->asked;
                arm_timer(ps);
                if (s->func == step_confirm)
                        arm_retry(ps);
                if (push_phase_is_final(operation_phase(s->op)) && ps->steps == 0 && !ps->released)
                        past_refresh(ps->past);
        }
        operation_unref(s->op);
        g_clear_error(&s->why);
        g_free(s);
        look_for_successor(ps);
}

/* @action: whose doubles are answered meanwhile; -1 for none. Takes over @why. */
static void push_step(Pushes *ps, step_func func, int action, GError *why)
{
        struct step *s = g_new(struct step, 1);

        *s = (struct step){ps, operation_ref(ps->current), func, action >= 0 ? 1u << action : 0, why};
        ps->asked |= s->asked;
        ps->steps++;
        worker_push(ps->engine, step_run, step_done, s);
}

static void step_plan(Operation *op, const GError *why)
{
        operation_plan(op);
}

static void step_stage(Operation *op, const GError *why)
{
        operation_stage(op);
}

static void step_commit(Operation *op, const GError *why)
{
        operation_commit(op);
}

static void step_roll_back(Operation *op, const GError *why)
{
        operation_roll_back(op);
}

static void step_release(Operation *op, const GError *why)
{
        operation_release(op);
        memory_trim();
}

static void abort_current(Pushes *ps, GError *why)
{
        operation_cancel(ps->current);
        push_step(ps, operation_abort, MOULT__PUSH_ACTION__PUSH_ABORT, why);
}

static void confirm_current(Pushes *ps)
{
        push_step(ps, step_confirm, MOULT__PUSH_ACTION__PUSH_CONFIRM, NULL);
        stale_answers_restart(ps->stale, ps->current);
}

/* ---- the program that comes after this one ---- */

static enum successor_when successor(const Pushes *ps)
{
        gboolean replaced = ps->events.is_replaced && ps->events.is_replaced(ps->user);

        return successor_rule(ps->current ? operation_phase(ps->current)
                                          : MOULT__TRANSACTION_PHASE__PHASE_NONE,
                              replaced, ps->current && ps->steps > 0);
}

/* Looks and answers go on in the rest, and prolong it. */
static gboolean on_rested(gpointer user)
{
        Pushes *ps = user;
        enum successor_when when = successor(ps);

        if (when == SUCCESSOR_AFTER_REST && worker_pending(ps->engine) > 0)
                return G_SOURCE_CONTINUE;
        ps->rest = 0;
        if (when == SUCCESSOR_AFTER_REST)
                ps->events.step_over(TRUE, ps->user);
        return G_SOURCE_REMOVE;
}

static void look_for_successor(Pushes *ps)
{
        enum successor_when when = successor(ps);

        g_clear_handle_id(&ps->rest, g_source_remove);
        if (when == SUCCESSOR_AFTER_REST)
                ps->rest = g_timeout_add_seconds(SUCCESSOR_REST_S, on_rested, ps);
        if (ps->events.step_over)
                ps->events.step_over(when == SUCCESSOR_NOW, ps->user);
}

/* ---- timers ---- */

static gboolean on_retry(gpointer user)
{
        Pushes *ps = user;

        ps->retry = 0;
        if (operation_phase(ps->current) == MOULT__TRANSACTION_PHASE__PHASE_ACTIVE && !ps->asked)
                confirm_current(ps);
        return G_SOURCE_REMOVE;
}

/* After a try to confirm. One that failed is tried again until the dead-man time is over: the host has said
 * yes, and what is in the way, a full disk say, may go. */
static void arm_retry(Pushes *ps)
{
        g_autofree char *why = operation_confirm_error(ps->current);
        g_autofree char *id = push_id_text(operation_id(ps->current));

        g_clear_handle_id(&ps->retry, g_source_remove);
        if (!why || operation_phase(ps->current) != MOULT__TRANSACTION_PHASE__PHASE_ACTIVE)
                return;
        event_log(EVENT_WARNING, "agent-confirm-failed", why, "push", id, NULL);
        ps->retry = g_timeout_add_seconds(CONFIRM_RETRY_S, on_retry, ps);
}

static void release_current(Pushes *ps)
{
        if (ps->released)
                return;
        ps->released = TRUE;
        push_step(ps, step_release, -1, NULL);
}

static void forget_interrupted(gpointer job)
{
        Pushes *ps = job;
        g_autoptr(GError) error = NULL;
        g_autofree char *text = NULL;

        if (!upgrade_forget_interrupted(ps->upgrade, &text, &error))
                event_log(EVENT_WARNING, "agent-forget-failed", error->message, NULL);
        else if (text)
                event_log(EVENT_NOTICE, "agent-push-forgotten", text, NULL);
}

/* What an interrupted staging left is kept for the push that it belongs to, but not for ever. */
static gboolean on_nobody_came(gpointer user)
{
        Pushes *ps = user;

        ps->timer = 0;
        worker_push(ps->engine, forget_interrupted, NULL, ps);
        return G_SOURCE_REMOVE;
}

static gboolean on_timer(gpointer user)
{
        Pushes *ps = user;
        Moult__TransactionPhase phase = operation_phase(ps->current);
        g_autofree char *id = push_id_text(operation_id(ps->current));

        ps->timer = 0;
        if (push_phase_is_final(phase)) {
                release_current(ps);
        } else if (phase == MOULT__TRANSACTION_PHASE__PHASE_ACTIVE) {
                GError *why = operation_deadman_reason(ps->current);

                event_log(EVENT_WARNING, "agent-deadman", why->message, "push", id, NULL);
                abort_current(ps, why);
        } else {
                event_log(EVENT_NOTICE, "agent-push-forgotten", "nobody drove this push: dropped", "push", id,
                          NULL);
                abort_current(ps, g_error_new(MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                                              "the host did not go on with this push for %u s: dropped, "
                                              "nothing was changed",
                                              ps->config->idle_timeout_s));
        }
        return G_SOURCE_REMOVE;
}

static guint64 timer_ms(const Pushes *ps, Moult__TransactionPhase phase)
{
        switch (phase) {
        case MOULT__TRANSACTION_PHASE__PHASE_ACTIVE:
                return MAX(operation_confirm_left_ms(ps->current), 1);
        case MOULT__TRANSACTION_PHASE__PHASE_PLANNED:
        case MOULT__TRANSACTION_PHASE__PHASE_STAGED:
                return (guint64)ps->config->idle_timeout_s * 1000;
        default:
                return push_phase_is_final(phase) && !ps->released ? LINGER_S * 1000 : 0;
        }
}

/* What the phase asks for; none while a step is on its way that changes the phase. */
static void arm_timer(Pushes *ps)
{
        Moult__TransactionPhase phase = operation_phase(ps->current);
        gboolean leaving = phase == MOULT__TRANSACTION_PHASE__PHASE_ACTIVE
                                   ? ps->asked & (1u << MOULT__PUSH_ACTION__PUSH_CONFIRM |
                                                  1u << MOULT__PUSH_ACTION__PUSH_ABORT)
                                   : ps->steps > 0;
        guint64 ms = leaving ? 0 : timer_ms(ps, phase);

        g_clear_handle_id(&ps->timer, g_source_remove);
        if (ms == 0)
                return;
        ps->timer = g_timeout_add((guint)MIN(ms, G_MAXUINT), on_timer, ps);
        ps->timer_ends_us = g_get_monotonic_time() + (gint64)ms * 1000;
}

/* ---- changes ---- */

static void on_changed(Operation *op, gpointer user)
{
        Pushes *ps = user;
        Moult__TransactionPhase phase = operation_phase(op);

        if (op != ps->current)
                return;
        if (phase != ps->seen) {
                ps->seen = phase;
                push_log_phase(op, phase);
                arm_timer(ps);
        }
        ps->events.changed(ps->user);
}

struct operation_env push_env(Pushes *ps)
{
        return (struct operation_env){ps->config, ps->upgrade, ps->peers, on_changed, ps, ps->packs};
}

/* Takes over @op. The one before it lets go of its transaction first, in the worker's order. */
static void set_current(Pushes *ps, Operation *op)
{
        if (ps->current) {
                release_current(ps);
                operation_detach(ps->current);
                operation_unref(ps->current);
        }
        g_clear_handle_id(&ps->timer, g_source_remove);
        g_clear_handle_id(&ps->retry, g_source_remove);
        ps->current = op;
        ps->seen = operation_phase(op);
        ps->asked = ps->steps = 0;
        ps->released = FALSE;
        push_log_phase(op, ps->seen);
        ps->events.changed(ps->user);
}

void push_begin(Pushes *ps, Operation *op)
{
        set_current(ps, op);
        push_step(ps, operation_is_rollback(op) ? step_roll_back : step_plan, -1, NULL);
}

/* ---- opening ---- */

struct opening {
        Pushes *ps;
        Upgrade *upgrade;
        char *recovered;
        GError *error;
};

static void opening_run(gpointer job)
{
        struct opening *o = job;
        struct upgrade_config config = agent_config_upgrade(o->ps->config);

        config.own = o->ps->events.own;

        o->upgrade = upgrade_open(&config, &o->recovered, &o->error);
}

/* Beside the command socket, and not before it is known what can be had there: a server of a merge that asks
 * meanwhile tries again. Without it an instant push that loses its window has nobody to ask: worth a
 * word, not a reason not to start. */
static PackServer *serve_packs(const struct agent_config *config)
{
        g_autoptr(GError) error = NULL;
        PackServer *s = pack_server_new(config->pack_socket, &error);

        if (!s)
                event_log(EVENT_WARNING, "agent-pack-socket", error->message, NULL);
        return s;
}

static void opening_done(gpointer job)
{
        struct opening *o = job;
        Pushes *ps = o->ps;
        struct operation_env env;
        Operation *recovered;

        ps->upgrade = o->upgrade;
        if (o->recovered)
                event_log(EVENT_NOTICE, "agent-recovered", o->recovered, NULL);
        if (ps->upgrade && upgrade_stuck(ps->upgrade))
                event_log(EVENT_ERROR, "agent-rollback-stuck", upgrade_stuck(ps->upgrade), NULL);
        if (ps->upgrade)
                ps->past = past_new(ps->engine, ps->upgrade);
        ps->stale = stale_answers_new(ps->engine, ps->upgrade);
        ps->packs = serve_packs(ps->config);
        env = push_env(ps);
        recovered = ps->upgrade ? operation_new_recovered(&env) : NULL;
        if (recovered) {
                set_current(ps, recovered);
                push_step(ps, step_commit, MOULT__PUSH_ACTION__PUSH_COMMIT, NULL);
        } else if (ps->upgrade) {
                ps->timer = g_timeout_add_seconds(ps->config->idle_timeout_s, on_nobody_came, ps);
        }
        ps->events.opened(o->error, ps->user);
        if (ps->upgrade)
                look_for_successor(ps);
        g_clear_error(&o->error);
        g_free(o->recovered);
        g_free(o);
}

Pushes *pushes_new(const struct agent_config *config, Peers *peers, const struct pushes_events *events,
                   gpointer user)
{
        Pushes *ps = g_new0(Pushes, 1);
        struct opening *o = g_new0(struct opening, 1);

        ps->config = config;
        ps->peers = peers;
        ps->events = *events;
        ps->user = user;
        ps->engine = worker_new(1);
        o->ps = ps;
        worker_push(ps->engine, opening_run, opening_done, o);
        return ps;
}

void pushes_free(Pushes *ps)
{
        if (!ps)
                return;
        if (ps->current) {
                operation_cancel(ps->current);
                release_current(ps);
        }
        worker_free(ps->engine);
        past_free(ps->past);
        stale_answers_free(ps->stale);
        g_clear_handle_id(&ps->timer, g_source_remove);
        g_clear_handle_id(&ps->retry, g_source_remove);
        g_clear_handle_id(&ps->rest, g_source_remove);
        if (ps->current)
                operation_detach(ps->current);
        operation_unref(ps->current);
        g_clear_pointer(&ps->packs, pack_server_free);
        upgrade_free(ps->upgrade);
        g_free(ps);
}

/* ---- what requests do (push_requests.c) ---- */

void push_act(Pushes *ps, const Moult__PushCommand *command)
{
        Moult__PushAction action = command->action;

        switch (action) {
        case MOULT__PUSH_ACTION__PUSH_STAGE:
                push_step(ps, step_stage, (int)action, NULL);
                break;
        case MOULT__PUSH_ACTION__PUSH_COMMIT:
                push_step(ps, step_commit, (int)action, NULL);
                break;
        case MOULT__PUSH_ACTION__PUSH_CONFIRM:
                confirm_current(ps);
                break;
        case MOULT__PUSH_ACTION__PUSH_ABORT:
                abort_current(ps, g_error_new_literal(MOULT_ERROR, MOULT_ERROR_CANCELLED,
                                                      "the host aborted this push"));
                break;
        case MOULT__PUSH_ACTION__PUSH_SOURCES_CHANGED:
                operation_look_again(ps->current, command->sources, command->n_sources);
                break;
        default:
                break;
        }
        arm_timer(ps);
}

Moult__TransactionState *pushes_state(Pushes *ps)
{
        Moult__TransactionState *s = ps->current ? operation_state(ps->current) : NULL;

        if (s && s->phase == MOULT__TRANSACTION_PHASE__PHASE_ACTIVE)
                s->confirm_left_ms =
                        ps->timer ? (guint64)MAX(ps->timer_ends_us - g_get_monotonic_time(), 0) / 1000 : 0;
        return s;
}

gboolean pushes_is_switching(const Pushes *ps)
{
        Moult__TransactionPhase phase;

        if (!ps->current || ps->steps == 0)
                return FALSE;
        phase = operation_phase(ps->current);
        return (phase == MOULT__TRANSACTION_PHASE__PHASE_COMMITTING && !operation_is_filling(ps->current)) ||
               phase == MOULT__TRANSACTION_PHASE__PHASE_ROLLING_BACK;
}

gboolean pushes_must_not_freeze(const Pushes *ps)
{
        Moult__TransactionPhase phase;

        if (!ps->current || ps->steps == 0)
                return FALSE;
        phase = operation_phase(ps->current);
        return operation_is_rollback(ps->current) || phase == MOULT__TRANSACTION_PHASE__PHASE_COMMITTING ||
               phase == MOULT__TRANSACTION_PHASE__PHASE_ROLLING_BACK ||
               (ps->asked & (1u << MOULT__PUSH_ACTION__PUSH_COMMIT | 1u << MOULT__PUSH_ACTION__PUSH_ABORT));
}

gboolean pushes_is_working(const Pushes *ps)
{
        return worker_pending(ps->engine) > 0;
}
