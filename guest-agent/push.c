/* guest-agent/push.c - commands to steps, steps to the worker, timers, answers. */
#include "guest-agent/push.h"

#include <string.h>

#include "common/error.h"
#include "common/events.h"
#include "guest-agent/memory.h"
#include "guest-agent/past.h"
#include "guest-agent/plan_page.h"
#include "guest-agent/push_log.h"
#include "guest-agent/push_rules.h"
#include "guest-agent/stale_answers.h"
#include "guest-agent/successor.h"
#include "proto/limits.h"

/* How long the plan of a push that is over can still be asked for. */
#define LINGER_S 60
/* Between two tries to record a confirmation. */
#define CONFIRM_RETRY_S 1

struct Pushes {
        const struct agent_config *config;
        Peers *peers;
        struct pushes_events events;
        gpointer user;
        Worker *engine; /* steps */
        Upgrade *upgrade;
        Past *past;
        StaleAnswers *stale;

        Operation *current;           /* the one that runs, or the last one */
        Moult__TransactionPhase seen; /* its phase when last looked at */
        unsigned asked;               /* bit for each PushAction that is queued or running */
        unsigned steps;               /* queued or running for `current` */
        gboolean released;            /* `current` has let go of its transaction */
        guint rest;                   /* before a successor */
        guint retry;                  /* of a confirmation that could not be recorded */
        guint timer;                  /* dead-man, idle, or linger: by phase */
        gint64 timer_ends_us;
        PackServer *packs; /* or NULL */
};

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

static struct operation_env make_env(Pushes *ps)
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
        env = make_env(ps);
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
        ps->engine = worker_new();
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

/* ---- answers ---- */

Moult__TransactionState *pushes_state(Pushes *ps)
{
        Moult__TransactionState *s = ps->current ? operation_state(ps->current) : NULL;

        if (s && s->phase == MOULT__TRANSACTION_PHASE__PHASE_ACTIVE)
                s->confirm_left_ms =
                        ps->timer ? (guint64)MAX(ps->timer_ends_us - g_get_monotonic_time(), 0) / 1000 : 0;
        return s;
}

static void answer_current(Pushes *ps, struct ticket *ticket)
{
        Moult__TransactionState *s = pushes_state(ps);

        ticket_reply_state(ticket, s);
        push_state_free(s);
}

static void refuse(struct ticket *ticket, MoultError code, const char *text)
{
        g_autoptr(GError) error = g_error_new_literal(MOULT_ERROR, (int)code, text);

        ticket_reply_error(ticket, error);
}

static gboolean is_current(const Pushes *ps, ProtobufCBinaryData id)
{
        return ps->current && id.len == 16 && memcmp(id.data, operation_id(ps->current), 16) == 0;
}

/* NULL if another operation may begin. A dry run that is planned has done its work: it gives way. */
static const char *busy_reason(Pushes *ps)
{
        Moult__TransactionPhase phase;

        if (!ps->current)
                return NULL;
        phase = operation_phase(ps->current);
        if (push_phase_is_final(phase) ||
            (operation_is_dry_run(ps->current) && phase == MOULT__TRANSACTION_PHASE__PHASE_PLANNED))
                return NULL;
        return "another push is under way here: wait for its end, or abort it";
}

static const char *source_refusal(const Moult__Offer *offer)
{
        for (size_t i = 0; i < offer->n_sources; i++)
                if (offer->sources[i] == MOULT__SOURCE_KIND__SOURCE_FILE)
                        return "an offer cannot name a file as the source";
        return NULL;
}

/* Offered again after it failed: nothing was touched, so it may be tried again under its name. */
static gboolean is_another_try(Pushes *ps)
{
        return !operation_is_rollback(ps->current) &&
               operation_phase(ps->current) == MOULT__TRANSACTION_PHASE__PHASE_FAILED;
}

void pushes_offer(Pushes *ps, struct ticket *ticket, const Moult__Offer *offer)
{
        struct operation_env env = make_env(ps);
        const char *why = source_refusal(offer);

        if (is_current(ps, offer->push_id) && !is_another_try(ps)) {
                answer_current(ps, ticket);
        } else if (why) {
                refuse(ticket, MOULT_ERROR_UNSUPPORTED, why);
        } else if ((why = busy_reason(ps))) {
                refuse(ticket, MOULT_ERROR_BUSY, why);
        } else {
                set_current(ps, operation_new_push(&env, offer));
                push_step(ps, step_plan, -1, NULL);
                answer_current(ps, ticket);
        }
}

void pushes_rollback(Pushes *ps, struct ticket *ticket, const Moult__RollbackGeneration *request)
{
        struct operation_env env = make_env(ps);
        const char *busy = busy_reason(ps);

        if (is_current(ps, request->push_id)) {
                answer_current(ps, ticket);
                return;
        }
        if (busy) {
                refuse(ticket, MOULT_ERROR_BUSY, busy);
                return;
        }
        set_current(ps, operation_new_rollback(&env, request));
        push_step(ps, step_roll_back, -1, NULL);
        answer_current(ps, ticket);
}

/* ---- commands ---- */

static void act(Pushes *ps, const Moult__PushCommand *command)
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

static void command_current(Pushes *ps, struct ticket *ticket, const Moult__PushCommand *command)
{
        Moult__PushAction action = command->action;
        enum push_verdict verdict = push_rule(operation_phase(ps->current), action);
        unsigned aborting = ps->asked & (1u << MOULT__PUSH_ACTION__PUSH_ABORT);

        if (verdict == VERDICT_ACT && operation_is_dry_run(ps->current) &&
            action == MOULT__PUSH_ACTION__PUSH_STAGE) {
                refuse(ticket, MOULT_ERROR_WRONG_STATE,
                       "this push is a dry run: it is planned and goes no further");
                return;
        }
        if (verdict == VERDICT_WRONG_STATE) {
                g_autofree char *text = g_strdup_printf("too early: this push is still in %s",
                                                        push_phase_name(operation_phase(ps->current)));
                refuse(ticket, MOULT_ERROR_WRONG_STATE, text);
                return;
        }
        /* A confirmation that is to be tried again is on its way already. */
        gboolean waits = action == MOULT__PUSH_ACTION__PUSH_CONFIRM && ps->retry;

        /* It is an answer to the program that comes after this one. */
        if (action == MOULT__PUSH_ACTION__PUSH_CONFIRM && ps->events.is_replaced &&
            ps->events.is_replaced(ps->user))
                waits = TRUE;

        if (verdict == VERDICT_ACT && !aborting && !waits && !(ps->asked & (1u << action)))
                act(ps, command);
        answer_current(ps, ticket);
}

void pushes_command(Pushes *ps, struct ticket *ticket, const Moult__PushCommand *command)
{
        if (is_current(ps, command->push_id))
                command_current(ps, ticket, command);
        else
                past_push(ps->past, ticket, command->push_id.data);
}

void pushes_plan_page(Pushes *ps, struct ticket *ticket, const Moult__PlanQuery *query)
{
        if (is_current(ps, query->push_id) && !ps->released && operation_has_plan(ps->current))
                plan_page_answer(ps->current, ticket, query);
        else
                refuse(ticket, MOULT_ERROR_NOT_FOUND, "there is no plan of this push here: offer it again");
}

void pushes_stale(Pushes *ps, struct ticket *ticket, const Moult__StaleQuery *query)
{
        Moult__TransactionPhase phase = is_current(ps, query->push_id) ? operation_phase(ps->current)
                                                                       : MOULT__TRANSACTION_PHASE__PHASE_NONE;

        if (is_current(ps, query->push_id) && phase != MOULT__TRANSACTION_PHASE__PHASE_ACTIVE &&
            !push_phase_is_final(phase))
                refuse(ticket, MOULT_ERROR_WRONG_STATE, "too early: this push has switched nothing yet");
        else
                stale_answers_reply(ps->stale, ticket, query->push_id);
}

static gboolean step_runs(const Pushes *ps)
{
        return ps->steps > 0 && !(ps->current && push_phase_is_final(operation_phase(ps->current)));
}

void pushes_history(Pushes *ps, struct ticket *ticket, unsigned count)
{
        past_history(ps->past, ticket, step_runs(ps), count);
}

void pushes_status(Pushes *ps, struct ticket *ticket, const Moult__Status *status)
{
        Moult__Status full = *status;

        full.current = pushes_state(ps);
        past_status(ps->past, ticket, step_runs(ps), &full);
        push_state_free(full.current);
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

gboolean pushes_is_working(const Pushes *ps)
{
        return worker_pending(ps->engine) > 0;
}
