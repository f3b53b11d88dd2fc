/* tests/sim/rollout_rules.c - what must be true of rollouts. */
#include "tests/sim/rollout_rules.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "host-service/catalogue/operations.h"
#include "tests/sim/vault.h"
#include "tests/sim/vm.h"

struct rollout {
        char *id, *rollback;
        RolloutState state;
        int wave;
        guint waves, max_failures, accepted;
        gint64 pause_ms, next_us; /* next_us: 0: somebody has resumed it */
        gboolean canary, begun, ended;
        guint promises;
        gint64 promised_us;
};

/* A push of any operation, as the events tell of it. */
struct push {
        char *operation, *vm;
        struct rollout *rollout; /* or NULL */
        guint wave;
        gsize bytes;
        gboolean begun, changes; /* changes: no dry run */
        PushState state, outcome;
};

struct RolloutRules {
        World *w;
        const GPtrArray *vms;
        guint concurrent;
        guint64 bytes;
        GPtrArray *rollouts; /* of struct rollout, owned */
        GPtrArray *pushes;   /* of struct push, owned */
};

static void rollout_free(gpointer p)
{
        struct rollout *r = p;

        g_free(r->id);
        g_free(r->rollback);
        g_free(r);
}

static void push_seen_free(gpointer p)
{
        struct push *s = p;

        g_free(s->operation);
        g_free(s->vm);
        g_free(s);
}

RolloutRules *rollout_rules_new(World *w, const GPtrArray *vms, guint concurrent, guint64 bytes)
{
        RolloutRules *r = g_new0(RolloutRules, 1);

        r->w = w;
        r->vms = vms;
        r->concurrent = concurrent;
        r->bytes = bytes;
        r->rollouts = g_ptr_array_new_with_free_func(rollout_free);
        r->pushes = g_ptr_array_new_with_free_func(push_seen_free);
        return r;
}

void rollout_rules_free(RolloutRules *r)
{
        if (!r)
                return;
        g_ptr_array_unref(r->rollouts);
        g_ptr_array_unref(r->pushes);
        g_free(r);
}

static struct rollout *find_rollout(const RolloutRules *r, const char *id)
{
        for (guint i = 0; i < r->rollouts->len; i++) {
                struct rollout *ro = r->rollouts->pdata[i];

                if (g_str_equal(ro->id, id))
                        return ro;
        }
        return NULL;
}

gboolean rollout_rules_know(const RolloutRules *r, const char *id)
{
        return id && find_rollout(r, id);
}

void rollout_rules_promise(RolloutRules *r, const char *id, RolloutPromise promise)
{
        struct rollout *ro = find_rollout(r, id);

        if (!ro || ro->state > ROLLOUT_STOPPED)
                return; /* it ends as it was about to */
        ro->promises |= promise;
        ro->promised_us = world_now_us(r->w);
}

/* --- counting --- */

static gboolean is_failure(const struct push *p)
{
        return p->begun && (p->outcome == PUSH_STATE_ROLLED_BACK || p->outcome == PUSH_STATE_REFUSED ||
                            p->outcome == PUSH_STATE_FAILED);
}

struct counts {
        guint total, open, done, skipped, failures, unreachable;
};

/* Of the waves from @first to @last. */
static struct counts count(const RolloutRules *r, const struct rollout *ro, int first, int last)
{
        struct counts n = {0};

        for (guint i = 0; i < r->pushes->len; i++) {
                const struct push *p = r->pushes->pdata[i];

                if (p->rollout != ro || (int)p->wave < first || (int)p->wave > last)
                        continue;
                n.total++;
                n.open += !push_state_is_final(p->state);
                n.done += p->state == PUSH_STATE_DONE;
                n.skipped += p->state == PUSH_STATE_SKIPPED;
                n.failures += is_failure(p);
                n.unreachable += p->state == PUSH_STATE_FAILED && !p->begun;
        }
        return n;
}

static struct counts count_all(const RolloutRules *r, const struct rollout *ro)
{
        return count(r, ro, 0, G_MAXINT);
}

static gboolean is_over_budget(const RolloutRules *r, const struct rollout *ro)
{
        struct counts n = count_all(r, ro);

        return n.failures > ro->accepted && n.failures - ro->accepted > ro->max_failures;
}

/* --- pushes --- */

static struct push *find_push(const RolloutRules *r, const char *operation, const char *vm)
{
        for (guint i = r->pushes->len; i > 0; i--) {
                struct push *p = r->pushes->pdata[i - 1];

                if (g_str_equal(p->operation, operation) && g_str_equal(p->vm, vm))
                        return p;
        }
        return NULL;
}

/* What never changes of it is in its row. */
static struct push *add_push(RolloutRules *r, const EventRecord *e, const PushRecord *record)
{
        struct push *p = g_new0(struct push, 1);
        const struct push_options *o = &record->options;

        p->operation = g_strdup(e->operation);
        p->vm = g_strdup(e->vm);
        p->wave = record->wave;
        p->changes = !o->dry_run && !o->rollback;
        p->bytes = p->changes ? VAULT_PACK_SIZE : 0;
        g_ptr_array_add(r->pushes, p);
        return p;
}

static gboolean is_in_place(PushState s)
{
        return s >= PUSH_STATE_PLUG && s <= PUSH_STATE_CONFIRM;
}

static void check_places(RolloutRules *r, const EventRecord *e)
{
        guint n = 0;
        guint64 bytes = 0;

        for (guint i = 0; i < r->pushes->len; i++) {
                const struct push *p = r->pushes->pdata[i];

                if (!is_in_place(p->state))
                        continue;
                n++;
                bytes += p->bytes;
        }
        if (n > r->concurrent)
                world_fail(r->w, "%s begins a push of %s: %u talk to their guests at once, %u may", e->vm,
                           e->operation, n, r->concurrent);
        else if (n > 1 && r->bytes > 0 && bytes > r->bytes)
                world_fail(r->w, "%s begins a push of %s: %" G_GUINT64_FORMAT " bytes are staged at once",
                           e->vm, e->operation, bytes);
}

static void check_begin(RolloutRules *r, const struct push *p)
{
        const struct rollout *ro = p->rollout;
        const char *why = NULL;

        if (ro->state != ROLLOUT_RUNNING)
                why = rollout_state_name(ro->state);
        else if ((int)p->wave > ro->wave)
                why = "not at its wave yet";
        else if (is_over_budget(r, ro))
                why = "beyond its failures";
        if (why)
                world_fail(r->w, "%s begins in wave %u of rollout %s, which is %s (wave %d)", p->vm, p->wave,
                           ro->id, why, ro->wave);
}

static void move(RolloutRules *r, struct push *p, PushState state, const EventRecord *e)
{
        gboolean enters = is_in_place(state) && !is_in_place(p->state);

        if (push_state_is_final(p->state))
                world_fail(r->w, "%s of %s %s: it had ended, %s", e->type, e->operation, e->vm,
                           push_state_name(p->state));
        if (state == PUSH_STATE_QUEUED && p->begun)
                world_fail(r->w, "%s of rollout %s is held back, and it had begun", e->vm, e->operation);
        p->state = state;
        if (enters)
                check_places(r, e);
        if (enters && !p->begun && p->rollout)
                check_begin(r, p);
        p->begun |= enters;
}

static void take_push(RolloutRules *r, Catalogue *c, const EventRecord *e)
{
        struct push *p = find_push(r, e->operation, e->vm);
        PushState state;

        if (!push_state_parse(e->type + strlen("push."), &state))
                return; /* progress */
        if (!p || state >= PUSH_STATE_UNPLUG) {
                g_autoptr(PushRecord) record = catalogue_push_get(c, e->operation, e->vm, NULL);

                if (!record)
                        return; /* the disk */
                if (!p)
                        p = add_push(r, e, record);
                if (state >= PUSH_STATE_UNPLUG)
                        p->outcome = record->outcome;
        }
        if (!p->rollout)
                p->rollout = find_rollout(r, e->operation);
        move(r, p, state, e);
}

/* --- rollouts --- */

static gint64 time_member(JsonObject *o, const char *name)
{
        const char *text = json_object_get_string_member_with_default(o, name, NULL);
        g_autoptr(GDateTime) t = text ? g_date_time_new_from_iso8601(text, NULL) : NULL;

        return t ? g_date_time_to_unix(t) * G_USEC_PER_SEC + g_date_time_get_microsecond(t) : 0;
}

static gboolean may_follow(RolloutState a, RolloutState b)
{
#define TO(state) (1u << ROLLOUT_##state)
        static const guint follow[ROLLOUT_STATE_MAX] = {
                [ROLLOUT_RUNNING] = TO(RUNNING) | TO(PAUSING) | TO(STOPPED) | TO(ABORTING) | TO(DONE),
                [ROLLOUT_PAUSING] = TO(RUNNING) | TO(PAUSING) | TO(STOPPED) | TO(ABORTING),
                [ROLLOUT_STOPPED] = TO(RUNNING) | TO(ABORTING),
                [ROLLOUT_ABORTING] = TO(ROLLING_BACK) | TO(ABORTED),
                [ROLLOUT_ROLLING_BACK] = TO(ROLLED_BACK),
        };

        return (follow[a] & (1u << b)) != 0;
#undef TO
}

/* Why the next wave may not begin now, or NULL. */
static const char *wave_refusal(const RolloutRules *r, const struct rollout *ro, int wave, gint64 now_us)
{
        struct counts n = count(r, ro, 0, ro->wave);

        if (wave != ro->wave + 1)
                return "a wave was left out";
        if (n.open > 0)
                return "the one before has not ended";
        if (is_over_budget(r, ro))
                return "too many have failed";
        if (ro->wave == 0 && ro->canary && n.done == 0 && n.unreachable > 0)
                return "no canary was upgraded";
        if (ro->wave >= 0 && ro->pause_ms > 0 && ro->state != ROLLOUT_PAUSING)
                return "there was no pause";
        if (ro->state == ROLLOUT_PAUSING && now_us < ro->next_us)
                return "the pause is not over";
        if (ro->promises && world_now_us(r->w) > ro->promised_us)
                return "it was cancelled";
        return NULL;
}

static void check_taken_back(RolloutRules *r, Catalogue *c, const struct rollout *ro, const struct push *p)
{
        g_autoptr(PushRecord) record = catalogue_push_get(c, ro->id, p->vm, NULL);
        g_autoptr(PushRecord) back = ro->rollback ? catalogue_push_get(c, ro->rollback, p->vm, NULL) : NULL;
        const GuestDisk *d = vm_disk(vm_find(r->vms, p->vm));
        const struct generation *g = record && !d->reverts ? guest_disk_find(d, record->push_id) : NULL;

        if (g && g->phase == MOULT__TRANSACTION_PHASE__PHASE_COMMITTED &&
            (!back || back->state == PUSH_STATE_DONE))
                world_fail(r->w, "rollout %s is rolled back, and %s has still what it brought (%s)", ro->id,
                           p->vm, back ? "reported as taken back" : "it was left out");
}

/* Why it cannot have ended in this state, or NULL. */
static const char *end_refusal(const RolloutRules *r, const struct rollout *ro, RolloutState state)
{
        if (count_all(r, ro).open > 0)
                return "a push has not ended";
        if (state == ROLLOUT_DONE && ro->wave + 1 < (int)ro->waves)
                return "there are more waves";
        if (state == ROLLOUT_DONE && ro->promises && world_now_us(r->w) > ro->promised_us)
                return "it was cancelled";
        if (state == ROLLOUT_ABORTED && (ro->promises & ROLLOUT_PROMISE_ROLLBACK))
                return "what it brought was to be taken back";
        return NULL;
}

static struct rollout *add_rollout(RolloutRules *r, Catalogue *c, const EventRecord *e)
{
        g_autoptr(RolloutRecord) record = catalogue_rollout_get(c, e->operation, NULL);
        struct rollout *ro;

        if (!record)
                return NULL;
        ro = g_new0(struct rollout, 1);
        ro->id = g_strdup(e->operation);
        ro->wave = -1;
        ro->waves = record->waves;
        ro->max_failures = record->max_failures;
        ro->pause_ms = record->pause_ms;
        ro->canary = record->canary;
        g_ptr_array_add(r->rollouts, ro);
        for (guint i = 0; i < r->pushes->len; i++) {
                struct push *p = r->pushes->pdata[i];

                if (g_str_equal(p->operation, ro->id))
                        p->rollout = ro;
        }
        return ro;
}

static void step(RolloutRules *r, struct rollout *ro, RolloutState state, int wave, const EventRecord *e)
{
        const char *why = NULL;

        if (ro->begun && !may_follow(ro->state, state))
                world_fail(r->w, "rollout %s was %s, and is %s", ro->id, rollout_state_name(ro->state),
                           rollout_state_name(state));
        if (wave != ro->wave) {
                why = state == ROLLOUT_RUNNING ? wave_refusal(r, ro, wave, e->time_us) : "it does not run";
                if (why)
                        world_fail(r->w, "rollout %s opens wave %d after %d: %s", ro->id, wave, ro->wave,
                                   why);
        }
        if (rollout_state_is_final(state) || state == ROLLOUT_ROLLING_BACK) {
                why = end_refusal(r, ro, state);
                if (why)
                        world_fail(r->w, "rollout %s is %s: %s", ro->id, rollout_state_name(state), why);
        }
}

static void take_rollout(RolloutRules *r, Catalogue *c, const EventRecord *e)
{
        g_autoptr(JsonNode) node = json_from_string(e->data, NULL);
        JsonObject *o = node ? json_node_get_object(node) : NULL;
        struct rollout *ro = find_rollout(r, e->operation);
        RolloutState state;
        int wave;

        if (!ro)
                ro = add_rollout(r, c, e);
        if (!o || !ro || !rollout_state_parse(e->type + strlen("rollout."), &state)) {
                world_fail(r->w, "event %s of %s cannot be read", e->type, e->operation);
                return;
        }
        wave = (int)json_object_get_int_member_with_default(o, "wave", -1);
        step(r, ro, state, wave, e);
        /* Whoever resumes answers for what the canaries showed. */
        ro->canary &= !(ro->state == ROLLOUT_STOPPED && state == ROLLOUT_RUNNING && ro->wave >= 0);
        ro->state = state;
        ro->wave = wave;
        ro->begun = TRUE;
        ro->accepted = (guint)json_object_get_int_member_with_default(o, "accepted_failures", 0);
        ro->next_us = time_member(o, "next");
        g_free(ro->rollback);
        ro->rollback = g_strdup(json_object_get_string_member_with_default(o, "rollback", NULL));
        for (guint i = 0; state == ROLLOUT_ROLLED_BACK && i < r->pushes->len; i++) {
                const struct push *p = r->pushes->pdata[i];

                if (p->rollout == ro && p->state == PUSH_STATE_DONE && p->changes)
                        check_taken_back(r, c, ro, p);
        }
}

/* --- the end of the operation --- */

static OperationState expected_end(const RolloutRules *r, const struct rollout *ro)
{
        struct counts n = count_all(r, ro);
        guint back = 0, back_done = 0;

        if (ro->state == ROLLOUT_DONE)
                return n.done + n.skipped == n.total ? OPERATION_SUCCEEDED
                       : n.done + n.skipped > 0      ? OPERATION_PARTIAL
                                                     : OPERATION_FAILED;
        for (guint i = 0; ro->rollback && i < r->pushes->len; i++) {
                const struct push *p = r->pushes->pdata[i];

                if (!g_str_equal(p->operation, ro->rollback))
                        continue;
                back++;
                back_done += p->state == PUSH_STATE_DONE;
        }
        return back == back_done ? OPERATION_CANCELLED : OPERATION_FAILED;
}

static void take_end(RolloutRules *r, struct rollout *ro, const EventRecord *e)
{
        OperationState state;

        if (!operation_state_parse(e->type + strlen("operation."), &state) ||
            !operation_state_is_final(state))
                return;
        if (!rollout_state_is_final(ro->state))
                world_fail(r->w, "rollout %s: %s, and it is %s", ro->id, e->type,
                           rollout_state_name(ro->state));
        else if (state != expected_end(r, ro))
                world_fail(r->w, "rollout %s is %s: %s, and not %s", ro->id, rollout_state_name(ro->state),
                           e->type, operation_state_name(expected_end(r, ro)));
}

void rollout_rules_take(RolloutRules *r, Catalogue *c, const EventRecord *e)
{
        if (!e->operation)
                return;
        if (g_str_has_prefix(e->type, "push.") && e->vm)
                take_push(r, c, e);
        else if (g_str_has_prefix(e->type, "rollout."))
                take_rollout(r, c, e);
        else if (g_str_has_prefix(e->type, "operation.") && find_rollout(r, e->operation))
                take_end(r, find_rollout(r, e->operation), e);
}
