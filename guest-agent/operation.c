/* guest-agent/operation.c - the blocking steps of one push, and the state that they leave. */
#include "guest-agent/operation.h"

#include <string.h>

#include "common/error.h"
#include "common/events.h"
#include "guest-agent/offered.h"
#include "guest-agent/worker.h"
#include "proto/limits.h"

struct Operation {
        struct operation_env env;
        guint8 id[16];
        Moult__Offer *offer; /* a push that was offered here */
        Moult__RollbackGeneration *rollback;
        guint64 confirm_timeout_ms;
        GCancellable *cancellable;
        Ladder *ladder; /* pushes that were offered */
        GMainContext *context;

        PackReader *reader;   /* worker thread only */
        gboolean serves_pack; /* instant mode: to servers of merges; set once */
        guint8 pack_digest[32];

        GMutex lock;              /* of all below; a leaf */
        Transaction *transaction; /* set in the worker thread */
        gboolean has_plan;
        Moult__TransactionState *last; /* never NULL */
        char *confirm_error;           /* why the last confirmation could not be recorded, or NULL */
        gint64 confirm_until_us; /* monotonic time; 0: it is not active, or that was not looked up yet */
        gboolean posted;         /* `changed` is on its way */
};

static void operation_clear(gpointer data)
{
        Operation *op = data;

        transaction_free(op->transaction);
        pack_reader_unref(op->reader);
        ladder_free(op->ladder);
        push_state_free(op->last);
        g_free(op->confirm_error);
        if (op->offer)
                moult__offer__free_unpacked(op->offer, NULL);
        if (op->rollback)
                moult__rollback_generation__free_unpacked(op->rollback, NULL);
        g_mutex_clear(&op->lock);
        g_main_context_unref(op->context);
        g_object_unref(op->cancellable);
}

Operation *operation_ref(Operation *op)
{
        return g_atomic_rc_box_acquire(op);
}

void operation_unref(Operation *op)
{
        if (op)
                g_atomic_rc_box_release_full(op, operation_clear);
}

static void tell_changed(gpointer user)
{
        Operation *op = user;

        g_mutex_lock(&op->lock);
        op->posted = FALSE;
        g_mutex_unlock(&op->lock);
        if (op->env.changed)
                op->env.changed(op, op->env.user);
        operation_unref(op);
}

/* Any thread. */
static void set_state(Operation *op, const Moult__TransactionState *s)
{
        Moult__TransactionState *copy = push_state_copy(s), *old;
        gboolean post;

        g_mutex_lock(&op->lock);
        old = op->last;
        op->last = copy;
        /* The plan stands when the first phase after planning is told, which is before that step has
         * returned. */
        op->has_plan |=
                op->offer && op->transaction && copy->phase > MOULT__TRANSACTION_PHASE__PHASE_PLANNING;
        post = !op->posted;
        op->posted = TRUE;
        g_mutex_unlock(&op->lock);
        push_state_free(old);
        if (post)
                main_context_post(op->context, tell_changed, operation_ref(op));
}

/* operation_state() takes it from the ladder. Any thread. */
static void on_wanted(gpointer user)
{
        Operation *op = user;
        gboolean post;

        g_mutex_lock(&op->lock);
        post = !op->posted;
        op->posted = TRUE;
        g_mutex_unlock(&op->lock);
        if (post)
                main_context_post(op->context, tell_changed, operation_ref(op));
}

static void observe(const Moult__TransactionState *s, gpointer user)
{
        set_state(user, s);
}

static void set_id(Operation *op, ProtobufCBinaryData id)
{
        if (id.len == sizeof op->id)
                memcpy(op->id, id.data, sizeof op->id);
}

static Operation *operation_new(const struct operation_env *env, ProtobufCBinaryData id,
                                Moult__TransactionPhase phase)
{
        Operation *op = g_atomic_rc_box_new0(Operation);
        Moult__TransactionState state = MOULT__TRANSACTION_STATE__INIT;

        op->env = *env;
        set_id(op, id);
        op->confirm_timeout_ms = env->config->confirm_timeout_ms;
        op->cancellable = g_cancellable_new();
        op->context = g_main_context_ref_thread_default();
        g_mutex_init(&op->lock);
        state.push_id = (ProtobufCBinaryData){sizeof op->id, op->id};
        state.phase = phase;
        op->last = push_state_copy(&state);
        return op;
}

Operation *operation_new_push(const struct operation_env *env, const Moult__Offer *offer)
{
        Operation *op = operation_new(env, offer->push_id, MOULT__TRANSACTION_PHASE__PHASE_PLANNING);
        struct ladder_config ladder = {
                .peers = env->peers,
                .sysfs_pci = env->config->pci,
                .sysfs_block = env->config->block,
                .dev = env->config->dev,
                .wanted = on_wanted,
                .user = op,
                .pack_size = offer->pack_size,
                .rungs = offer->sources,
                .n_rungs = offer->n_sources,
                .strict_window = offer->strict_window,
                .patience_s = env->config->patience_s,
                .cancellable = op->cancellable,
        };

        memcpy(ladder.manifest_digest, offer->manifest_digest.data, sizeof ladder.manifest_digest);
        op->offer = offered_copy(offer);
        op->ladder = ladder_new(&ladder);
        if (offer->confirm_timeout_ms > 0)
                op->confirm_timeout_ms = offer->confirm_timeout_ms;
        op->last->manifest_digest =
                message_blob(g_memdup2(offer->manifest_digest.data, offer->manifest_digest.len),
                             offer->manifest_digest.len);
        return op;
}

/* The pack of @op is what servers of merges may ask for, over whatever way the ladder finds. */
static void serve_pack(Operation *op, const guint8 digest[static 32])
{
        if (!op->env.packs)
                return;
        memcpy(op->pack_digest, digest, sizeof op->pack_digest);
        op->serves_pack = TRUE;
        pack_server_set(op->env.packs, digest, ladder_source(op->ladder));
}

/* All of it is local, or nobody wants it any more. The host has no bytes for a push that has ended: whoever
 * still waits for some would do so for nothing, and is told to look in the store. */
static void serve_no_pack(Operation *op)
{
        if (!op->serves_pack)
                return;
        op->serves_pack = FALSE;
        g_cancellable_cancel(op->cancellable); /* who waits in the ladder for a way to the bytes */
        pack_server_set(op->env.packs, op->pack_digest, NULL);
}

/* An instant upgrade that was being copied: its bytes come from where they were offered. The agent that was
 * there before may have known of a better way by now; so does the host, which can say so. */
static void take_up_pack(Operation *op)
{
        struct transaction_pack pack;
        g_autoptr(GError) error = NULL;
        struct ladder_config ladder = {
                .peers = op->env.peers,
                .sysfs_pci = op->env.config->pci,
                .sysfs_block = op->env.config->block,
                .dev = op->env.config->dev,
                .wanted = on_wanted,
                .user = op,
                .patience_s = op->env.config->patience_s,
                .cancellable = op->cancellable,
        };

        if (!transaction_wants_pack(op->transaction, &pack, &error)) {
                if (error)
                        event_log(EVENT_WARNING, "agent-pack-lost", error->message, NULL);
                return;
        }
        ladder.pack_size = pack.size;
        ladder.rungs = pack.sources;
        ladder.n_rungs = pack.n_sources;
        ladder.strict_window = pack.strict_window;
        memcpy(ladder.manifest_digest, pack.manifest_digest, sizeof ladder.manifest_digest);
        op->ladder = ladder_new(&ladder);
        serve_pack(op, pack.manifest_digest);
}

Operation *operation_new_recovered(const struct operation_env *env)
{
        Operation *op = operation_new(env, (ProtobufCBinaryData){0, NULL},
                                      MOULT__TRANSACTION_PHASE__PHASE_COMMITTING);
        Moult__TransactionState *state;

        op->transaction = upgrade_recovered_transaction(env->upgrade, observe, op);
        if (!op->transaction) {
                operation_unref(op);
                return NULL;
        }
        state = transaction_state(op->transaction);
        set_id(op, state->push_id);
        push_state_free(op->last);
        op->last = push_state_copy(state);
        if (transaction_confirm_timeout_ms(op->transaction) > 0)
                op->confirm_timeout_ms = transaction_confirm_timeout_ms(op->transaction);
        transaction_state_free(state);
        take_up_pack(op);
        return op;
}

Operation *operation_new_rollback(const struct operation_env *env, const Moult__RollbackGeneration *request)
{
        Operation *op = operation_new(env, request->push_id, MOULT__TRANSACTION_PHASE__PHASE_ROLLING_BACK);
        size_t len = moult__rollback_generation__get_packed_size(request);
        g_autofree guint8 *buf = g_malloc(MAX(len, 1));

        moult__rollback_generation__pack(request, buf);
        op->rollback = moult__rollback_generation__unpack(NULL, len, buf);
        return op;
}

void operation_detach(Operation *op)
{
        op->env.changed = NULL;
}

const guint8 *operation_id(const Operation *op)
{
        return op->id;
}

gboolean operation_is_rollback(const Operation *op)
{
        return op->rollback != NULL;
}

gboolean operation_wants_restarts(const Operation *op)
{
        return op->offer && op->offer->restart_stale && !op->offer->dry_run;
}

gboolean operation_is_dry_run(const Operation *op)
{
        return op->offer && op->offer->dry_run;
}

guint64 operation_confirm_left_ms(Operation *op)
{
        g_mutex_lock(&op->lock);
        gint64 until_us = op->confirm_until_us;
        g_mutex_unlock(&op->lock);
        return until_us == 0 ? op->confirm_timeout_ms
                             : (guint64)MAX(until_us - g_get_monotonic_time(), 0) / 1000;
}

char *operation_confirm_error(Operation *op)
{
        g_mutex_lock(&op->lock);
        char *text = g_strdup(op->confirm_error);
        g_mutex_unlock(&op->lock);
        return text;
}

GError *operation_deadman_reason(Operation *op)
{
        g_autofree char *trouble = operation_confirm_error(op);
        guint64 ms = op->confirm_timeout_ms;

        if (trouble)
                return g_error_new(MOULT_ERROR, MOULT_ERROR_IO,
                                   "the host confirmed, but within %" G_GUINT64_FORMAT
                                   " ms that could not be recorded, so this is rolled back. The last try: %s",
                                   ms, trouble);
        return g_error_new(MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                           "the host did not confirm within %" G_GUINT64_FORMAT
                           " ms after the new files were active: rolled back",
                           ms);
}

Moult__TransactionState *operation_state(Operation *op)
{
        Moult__TransactionState *s;

        g_mutex_lock(&op->lock);
        s = push_state_copy(op->last);
        g_mutex_unlock(&op->lock);
        if (op->ladder) {
                s->source = ladder_kind(op->ladder);
                s->source_changes = ladder_changes(op->ladder);
                s->source_wanted = ladder_wanted(op->ladder);
        }
        return s;
}

Moult__TransactionPhase operation_phase(Operation *op)
{
        g_mutex_lock(&op->lock);
        Moult__TransactionPhase phase = op->last->phase;
        g_mutex_unlock(&op->lock);
        return phase;
}

static Transaction *get_transaction(Operation *op)
{
        g_mutex_lock(&op->lock);
        Transaction *t = op->transaction;
        g_mutex_unlock(&op->lock);
        return t;
}

/* The phase for an error that the engine did not turn into a final one: the pack could not be read or was
 * refused. */
static Moult__TransactionPhase phase_for(const GError *error)
{
        switch (moult_error_code(error)) {
        case MOULT_ERROR_UNTRUSTED:
        case MOULT_ERROR_MALFORMED:
        case MOULT_ERROR_CORRUPT:
        case MOULT_ERROR_UNSUPPORTED:
        case MOULT_ERROR_REFUSED:
        case MOULT_ERROR_DRIFT:
        case MOULT_ERROR_NO_SPACE:
                return MOULT__TRANSACTION_PHASE__PHASE_REFUSED;
        default:
                return MOULT__TRANSACTION_PHASE__PHASE_FAILED;
        }
}

/* Before the commit record nothing was touched, so an error there ends the push. */
static gboolean is_before_commit(Moult__TransactionPhase phase)
{
        return phase < MOULT__TRANSACTION_PHASE__PHASE_COMMITTING;
}

static void set_trouble(Operation *op, Moult__TransactionPhase phase, const GError *error)
{
        Moult__TransactionState *s = operation_state(op);
        ProtobufCBinaryData said = s->text;

        s->phase = phase;
        s->error = (Moult__ErrorCode)moult_error_code(error);
        s->text = message_bytes(error->message);
        set_state(op, s);
        s->text = said;
        push_state_free(s);
}

/* The dead-man time does not begin anew with a new agent. Only this thread writes it. */
static void begin_waiting(Operation *op, Transaction *t)
{
        gint64 left_us = (gint64)transaction_confirm_left_ms(t, op->confirm_timeout_ms) * 1000;

        g_mutex_lock(&op->lock);
        op->confirm_until_us = g_get_monotonic_time() + left_us;
        g_mutex_unlock(&op->lock);
}

/* After each step, with what it returned. */
static void settle(Operation *op, const GError *error)
{
        Transaction *t = get_transaction(op);
        Moult__TransactionState *engines = t ? transaction_state(t) : NULL;

        if (engines)
                set_state(op, engines);
        if (engines && engines->phase == MOULT__TRANSACTION_PHASE__PHASE_ACTIVE && !op->confirm_until_us)
                begin_waiting(op, t);
        transaction_state_free(engines);
        if (!error || push_phase_is_final(operation_phase(op)))
                return;
        if (is_before_commit(operation_phase(op)) || (op->rollback && !t)) {
                set_trouble(op, phase_for(error), error);
        }
}

static Transaction *begin_transaction(Operation *op, GError **error)
{
        const Moult__Offer *offer = op->offer;
        g_auto(GStrv) selection = offered_selection(offer);
        struct transaction_request request = {
                .allow_drift = offer->allow_drift,
                .dry_run = offer->dry_run,
                .selection = (const char *const *)selection,
                .confirm_timeout_ms = op->confirm_timeout_ms,
                .sync_mode = offer->sync_mode != MOULT__SYNC_MODE__SYNC_FAST
                                     ? offer->sync_mode
                                     : (Moult__SyncMode)op->env.config->sync_mode,
                .merge = (MergeMethod)offer->merge,
                .instant = offer->instant && !offer->dry_run,
                .sources = offer->sources,
                .n_sources = offer->n_sources,
                .strict_window = offer->strict_window,
                .workers = offer->workers ? offer->workers : op->env.config->workers,
        };
        g_autoptr(TrustStore) trust = offered_trust(op->env.config->trust, error);

        memcpy(request.push_id, op->id, sizeof request.push_id);
        if (trust)
                op->reader = pack_reader_open(ladder_source(op->ladder), trust, offer->manifest_digest.data,
                                              op->cancellable, error);
        if (!op->reader)
                return NULL;
        if (request.instant)
                serve_pack(op, offer->manifest_digest.data);
        return transaction_new(op->env.upgrade, op->reader, &request, observe, op, error);
}

/* A push that ended before the agent was restarted, offered again: its end is the answer. */
static gboolean adopt_known_end(Operation *op)
{
        Moult__TransactionState *known = upgrade_find_push(op->env.upgrade, op->id);
        gboolean ended = known && (known->phase == MOULT__TRANSACTION_PHASE__PHASE_COMMITTED ||
                                   known->phase == MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK);

        if (ended)
                set_state(op, known);
        transaction_state_free(known);
        return ended;
}

void operation_plan(Operation *op)
{
        g_autoptr(GError) error = NULL;
        Transaction *t;

        if (adopt_known_end(op))
                return;
        t = begin_transaction(op, &error);
        g_mutex_lock(&op->lock);
        op->transaction = t;
        g_mutex_unlock(&op->lock);
        if (t)
                transaction_plan(t, op->cancellable, &error);
        settle(op, error);
}

void operation_stage(Operation *op)
{
        g_autoptr(GError) error = NULL;
        Transaction *t = get_transaction(op);

        if (t && operation_phase(op) == MOULT__TRANSACTION_PHASE__PHASE_PLANNED)
                transaction_stage(t, op->cancellable, &error);
        settle(op, error);
}

/* What is visible is served from the pack: without bytes for the dead-man time it is taken back. */
static void begin_instant(Operation *op, Transaction *t)
{
        guint64 left_ms = transaction_fill_left_ms(t, op->confirm_timeout_ms);

        ladder_hold_on(op->ladder, op->confirm_timeout_ms, op->confirm_timeout_ms - left_ms);
}

/* What recovery found: its pack first. */
static gboolean commit(Operation *op, Transaction *t, GError **error)
{
        if (op->ladder && (op->offer ? op->offer->instant : TRUE))
                begin_instant(op, t);
        if ((op->offer || !op->ladder || transaction_give_pack(t, ladder_source(op->ladder), error)) &&
            transaction_commit(t, op->cancellable, error))
                return TRUE;
        /* The pack's record is damaged: nobody will ever be able to copy it. */
        if (!op->offer && !g_cancellable_is_cancelled(op->cancellable) &&
            operation_phase(op) == MOULT__TRANSACTION_PHASE__PHASE_COMMITTING)
                transaction_abort(t, *error, NULL);
        return FALSE;
}

void operation_commit(Operation *op)
{
        g_autoptr(GError) error = NULL;
        Transaction *t = get_transaction(op);
        Moult__TransactionPhase phase = operation_phase(op);

        /* COMMITTING at the start of this step: recovery rolled it forward, health is due. */
        if (t &&
            (phase == MOULT__TRANSACTION_PHASE__PHASE_STAGED ||
             phase == MOULT__TRANSACTION_PHASE__PHASE_COMMITTING) &&
            commit(op, t, &error))
                serve_no_pack(op);
        settle(op, error);
}

void operation_confirm(Operation *op)
{
        g_autoptr(GError) error = NULL;
        Transaction *t = get_transaction(op);

        if (t && operation_phase(op) == MOULT__TRANSACTION_PHASE__PHASE_ACTIVE)
                transaction_confirm(t, &error);
        if (error)
                g_prefix_error(&error,
                               "the confirmation could not be recorded, the upgrade is still active: ");
        g_mutex_lock(&op->lock);
        g_free(op->confirm_error);
        op->confirm_error = error ? g_strdup(error->message) : NULL;
        g_mutex_unlock(&op->lock);
        settle(op, error);
        if (error && operation_phase(op) == MOULT__TRANSACTION_PHASE__PHASE_ACTIVE)
                set_trouble(op, MOULT__TRANSACTION_PHASE__PHASE_ACTIVE, error);
}

void operation_abort(Operation *op, const GError *why)
{
        g_autoptr(GError) error = NULL;
        Transaction *t = get_transaction(op);

        if (push_phase_is_final(operation_phase(op)))
                return;
        if (t)
                transaction_abort(t, why, &error);
        settle(op, error ? error : why);
}

void operation_roll_back(Operation *op)
{
        const Moult__RollbackGeneration *r = op->rollback;
        const struct rollback_target target = {.number = r->generation,
                                               .of_push = r->of_push.len ? r->of_push.data : NULL,
                                               .force = r->force};
        g_autoptr(GError) error = NULL;

        if (!adopt_known_end(op))
                upgrade_rollback(op->env.upgrade, op->id, &target, observe, op, &error);
        settle(op, error);
}

void operation_release(Operation *op)
{
        Transaction *t;

        g_mutex_lock(&op->lock);
        t = g_steal_pointer(&op->transaction);
        op->has_plan = FALSE;
        g_mutex_unlock(&op->lock);
        transaction_free(t);
        serve_no_pack(op);
        g_clear_pointer(&op->reader, pack_reader_unref);
}

gboolean operation_is_filling(Operation *op)
{
        g_mutex_lock(&op->lock);
        gboolean filling = op->transaction && transaction_is_filling(op->transaction);
        g_mutex_unlock(&op->lock);
        return filling;
}

void operation_cancel(Operation *op)
{
        g_cancellable_cancel(op->cancellable);
}

void operation_look_again(Operation *op, const Moult__SourceKind *can, size_t n_can)
{
        if (op->ladder)
                ladder_look_again(op->ladder, can, n_can);
}

gboolean operation_has_plan(Operation *op)
{
        g_mutex_lock(&op->lock);
        gboolean has = op->has_plan;
        g_mutex_unlock(&op->lock);
        return has;
}

guint operation_plan_size(Operation *op)
{
        return transaction_plan_size(get_transaction(op));
}

const Moult__PlanItem *operation_plan_item(Operation *op, guint i)
{
        return transaction_plan_item(get_transaction(op), i);
}
