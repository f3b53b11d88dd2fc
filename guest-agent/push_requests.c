/* guest-agent/push_requests.c - what the host asks of the push that is under way, and of those before it:
 * which of it is done, and what is answered. */
#include <string.h>

#include "common/error.h"
#include "guest-agent/plan_page.h"
#include "guest-agent/push_log.h"
#include "guest-agent/push_private.h"
#include "guest-agent/push_rules.h"

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

static const char *hold_back(const Pushes *ps)
{
        return ps->events.hold_back ? ps->events.hold_back(ps->user) : NULL;
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
        struct operation_env env = push_env(ps);
        const char *why = source_refusal(offer);

        if (is_current(ps, offer->push_id) && !is_another_try(ps)) {
                answer_current(ps, ticket);
        } else if (why) {
                refuse(ticket, MOULT_ERROR_UNSUPPORTED, why);
        } else if ((why = busy_reason(ps)) || (why = hold_back(ps))) {
                refuse(ticket, MOULT_ERROR_BUSY, why);
        } else {
                push_begin(ps, operation_new_push(&env, offer));
                answer_current(ps, ticket);
        }
}

void pushes_rollback(Pushes *ps, struct ticket *ticket, const Moult__RollbackGeneration *request)
{
        struct operation_env env = push_env(ps);
        const char *busy = busy_reason(ps);

        if (!busy)
                busy = hold_back(ps);
        if (is_current(ps, request->push_id)) {
                answer_current(ps, ticket);
                return;
        }
        if (busy) {
                refuse(ticket, MOULT_ERROR_BUSY, busy);
                return;
        }
        push_begin(ps, operation_new_rollback(&env, request));
        answer_current(ps, ticket);
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
        gboolean begins =
                action == MOULT__PUSH_ACTION__PUSH_STAGE || action == MOULT__PUSH_ACTION__PUSH_COMMIT;
        const char *held =
                begins && verdict == VERDICT_ACT && !(ps->asked & (1u << action)) ? hold_back(ps) : NULL;

        if (held) {
                refuse(ticket, MOULT_ERROR_BUSY, held);
                return;
        }
        /* A confirmation that is to be tried again is on its way already. */
        gboolean waits = action == MOULT__PUSH_ACTION__PUSH_CONFIRM && ps->retry;

        /* It is an answer to the program that comes after this one. */
        if (action == MOULT__PUSH_ACTION__PUSH_CONFIRM && ps->events.is_replaced &&
            ps->events.is_replaced(ps->user))
                waits = TRUE;

        if (verdict == VERDICT_ACT && !aborting && !waits && !(ps->asked & (1u << action)))
                push_act(ps, command);
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
