/* host-service/snapshot/quiesce.c - freeze, ask, thaw, ask. */
#include "host-service/snapshot/quiesce.h"

#include "common/error.h"
#include "proto/message.h"

#define LEASE_MS     10000u
#define BEGIN_MS     120000u /* hooks write out what databases hold, and file systems what they do */
#define END_MS       120000u /* hooks may start what they have stopped */
#define ASK_MS       5000u   /* one answer */
#define POLL_MS      20u
#define ANSWER_BYTES (64u * 1024u)

struct Quiesce {
        const struct host_env *env;
        const struct guest_view *guests;
        char *vm;
        guint8 id[16];
        GSource *poll;
        gint64 until_us;
        gboolean ending;
        struct asking *asking; /* under way */
        quiesce_begun_func begun;
        quiesce_ended_func ended;
        gpointer user;
        GError *trouble; /* the last one */
};

/* Outlives the Quiesce if that goes first. */
struct asking {
        Quiesce *q;
};

static void ask(Quiesce *q, Moult__FreezeAction action, guint lease_ms);

Quiesce *quiesce_new(const struct host_env *env, const struct guest_view *guests, const char *vm)
{
        Quiesce *q = g_new0(Quiesce, 1);

        q->env = env;
        q->guests = guests;
        q->vm = g_strdup(vm);
        host_random_fill(env, q->id, sizeof q->id);
        return q;
}

void quiesce_free(Quiesce *q)
{
        if (!q)
                return;
        if (q->asking)
                q->asking->q = NULL;
        host_timer_clear(&q->poll);
        g_clear_error(&q->trouble);
        g_free(q->vm);
        g_free(q);
}

static gboolean is_over(const Quiesce *q)
{
        return host_monotonic_us(q->env) >= q->until_us;
}

static void finish_begin(Quiesce *q, const GError *error)
{
        quiesce_begun_func done = q->begun;

        q->begun = NULL;
        host_timer_clear(&q->poll);
        if (done)
                done(error, q->user);
}

static void finish_end(Quiesce *q, const Moult__FreezeState *s, const char *why)
{
        g_autofree char *text = s && s->text.len ? message_text(s->text) : NULL;
        struct quiesce_result r = {
                .held = s && s->held,
                .frozen_us = s ? (gint64)s->frozen_us : 0,
                .hooks = s ? s->hooks_run : 0,
                .why = text ? text : (char *)why,
        };
        quiesce_ended_func done = q->ended;

        q->ended = NULL;
        host_timer_clear(&q->poll);
        if (done)
                done(&r, q->user);
}

static gboolean on_poll(gpointer user)
{
        Quiesce *q = user;

        host_timer_clear(&q->poll);
        if (q->ending)
                ask(q, MOULT__FREEZE_ACTION__FREEZE_THAW, 0);
        else
                ask(q, MOULT__FREEZE_ACTION__FREEZE_BEGIN, LEASE_MS); /* it does not begin twice */
        return G_SOURCE_REMOVE;
}

static void again(Quiesce *q)
{
        if (!q->poll)
                q->poll = host_timer_add(q->env, POLL_MS, on_poll, q);
}

/* It may freeze yet, for nothing: the guest is told, and thaws by itself if it does not hear it. */
static void give_up(Quiesce *q, const GError *why)
{
        quiesce_begun_func done = q->begun;

        q->begun = NULL; /* nobody waits for what it says to this */
        ask(q, MOULT__FREEZE_ACTION__FREEZE_THAW, 0);
        done(why, q->user);
}

static void give_up_late(Quiesce *q)
{
        g_autoptr(GError) late =
                g_error_new(MOULT_ERROR, MOULT_ERROR_TIMEOUT, "the guest was not frozen within %u s%s%s",
                            BEGIN_MS / 1000, q->trouble ? ": " : "", q->trouble ? q->trouble->message : "");

        give_up(q, late);
}

static void on_state_begin(Quiesce *q, const Moult__FreezeState *s)
{
        g_autofree char *text = s->text.len ? message_text(s->text) : NULL;
        g_autoptr(GError) why = NULL;

        switch (s->phase) {
        case MOULT__FREEZE_PHASE__FREEZE_PHASE_FROZEN:
                finish_begin(q, NULL);
                return;
        case MOULT__FREEZE_PHASE__FREEZE_PHASE_HOOKS:
        case MOULT__FREEZE_PHASE__FREEZE_PHASE_FREEZING:
                if (is_over(q))
                        give_up_late(q);
                else
                        again(q);
                return;
        default:
                why = g_error_new(MOULT_ERROR, s->error ? (int)s->error : MOULT_ERROR_WRONG_STATE, "%s",
                                  text ? text : "the guest has thawed already");
                finish_begin(q, why);
        }
}

static void on_state_end(Quiesce *q, const Moult__FreezeState *s)
{
        if (s->phase == MOULT__FREEZE_PHASE__FREEZE_PHASE_THAWED)
                finish_end(q, s, NULL);
        else if (s->phase == MOULT__FREEZE_PHASE__FREEZE_PHASE_NONE)
                finish_end(q, NULL, "the guest does not know of its freeze any more: was it restarted?");
        else if (is_over(q))
                finish_end(q, NULL, "the guest does not say that it has thawed; it does when its lease ends");
        else
                again(q);
}

/* BUSY: an upgrade commits, which is over soon. */
static gboolean is_passing(const GError *error)
{
        return g_error_matches(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT) ||
               g_error_matches(error, MOULT_ERROR, MOULT_ERROR_BUSY);
}

static void on_trouble(Quiesce *q, const GError *error)
{
        g_clear_error(&q->trouble);
        q->trouble = g_error_copy(error);
        if (q->ending && is_over(q))
                finish_end(q, NULL, q->trouble->message);
        else if (!q->ending && (is_over(q) || !is_passing(error)))
                give_up(q, q->trouble);
        else
                again(q);
}

static void on_answer(const Moult__Message *answer, const GError *error, gpointer user)
{
        struct asking *a = user;
        Quiesce *q = a->q;

        g_free(a);
        if (!q)
                return;
        q->asking = NULL;
        if (q->ending ? !q->ended : !q->begun) /* given up meanwhile */
                return;
        if (error)
                on_trouble(q, error);
        else if (q->ending)
                on_state_end(q, answer->freeze_state);
        else
                on_state_begin(q, answer->freeze_state);
}

static void ask(Quiesce *q, Moult__FreezeAction action, guint lease_ms)
{
        Moult__Freeze f = MOULT__FREEZE__INIT;
        Message m = MOULT__MESSAGE__INIT;

        if (q->asking) { /* its answer, if there is one, is nobody's */
                q->asking->q = NULL;
                q->asking = NULL;
        }
        f.freeze_id = message_blob(q->id, sizeof q->id);
        f.action = action;
        f.lease_ms = lease_ms;
        m.body_case = MOULT__MESSAGE__BODY_FREEZE;
        m.freeze = &f;
        q->asking = g_new0(struct asking, 1);
        q->asking->q = q;
        q->guests->ops->ask(q->guests->self, q->vm, &m, ANSWER_BYTES, ASK_MS, on_answer, q->asking);
}

static gboolean on_cannot(gpointer user)
{
        Quiesce *q = user;
        struct guest_status status;
        g_autoptr(GError) why = NULL;

        host_timer_clear(&q->poll);
        q->guests->ops->status(q->guests->self, q->vm, &status);
        why = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                                  status.connected ? "the guest's agent is older than snapshots"
                                                   : "no agent is connected in the guest");
        finish_begin(q, why);
        return G_SOURCE_REMOVE;
}

void quiesce_begin(Quiesce *q, quiesce_begun_func done, gpointer user)
{
        struct guest_status status;

        q->begun = done;
        q->user = user;
        q->until_us = host_monotonic_us(q->env) + (gint64)BEGIN_MS * 1000;
        q->guests->ops->status(q->guests->self, q->vm, &status);
        if (status.freezes)
                ask(q, MOULT__FREEZE_ACTION__FREEZE_BEGIN, LEASE_MS);
        else
                q->poll = host_timer_add(q->env, 0, on_cannot, q);
}

void quiesce_end(Quiesce *q, quiesce_ended_func done, gpointer user)
{
        q->ending = TRUE;
        q->ended = done;
        q->user = user;
        q->until_us = host_monotonic_us(q->env) + (gint64)END_MS * 1000;
        host_timer_clear(&q->poll);
        ask(q, MOULT__FREEZE_ACTION__FREEZE_THAW, 0);
}
