/* host-service/rollout/rollout_manager.c - rollouts, driven by what the catalogue says of them. */
#include "host-service/rollout/rollout_manager.h"

#include <string.h>

#include "common/events.h"
#include "common/fault.h"
#include "host-service/catalogue/json.h"
#include "host-service/catalogue/vms.h"
#include "host-service/rollout/rollout_add.h"
#include "host-service/rollout/rollout_state.h"

#define RETRY_MS    1000u
#define WAIT_MAX_MS (60 * 60 * 1000)

struct RolloutManager {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        PushManager *pushes;
        GPtrArray *active; /* of struct active; unfinished */
        GSource *look;     /* at all of them, from the loop */
        GSource *wait;     /* for the end of a pause, or for the catalogue's disk */
        guint64 tally;     /* the catalogue's when it was looked at last */
};

struct active {
        char *id;
        gboolean taken_up;  /* the push manager has what may run */
        gboolean cancelled; /* and was told to cancel it */
        gboolean abort;     /* it is to be, and that is not stored yet */
        gboolean stuck;     /* its next step could not be stored: it may have been to stop */
};

static void active_free(gpointer data)
{
        struct active *a = data;

        g_free(a->id);
        g_free(a);
}

static gboolean on_look(gpointer user);

static void look_soon(RolloutManager *m)
{
        if (m->look || m->active->len == 0)
                return;
        m->look = host_timer_add(m->env, 0, on_look, m);
        /* Before the push manager gives the place of one that failed to the next. */
        g_source_set_priority(m->look, G_PRIORITY_HIGH);
}

static gboolean on_wait_over(gpointer user)
{
        RolloutManager *m = user;

        host_timer_clear(&m->wait);
        look_soon(m);
        return G_SOURCE_REMOVE;
}

static void look_later(RolloutManager *m, gint64 ms)
{
        host_timer_clear(&m->wait);
        m->wait = host_timer_add(m->env, (guint)CLAMP(ms, 1, WAIT_MAX_MS), on_wait_over, m);
}

/* --- steps. Each stores what it is about to do; FALSE with @error: nothing was done, try again --- */

static gboolean is_on_release(RolloutManager *m, const VmRecord *vm, const PushRecord *p)
{
        const struct guest_view *g = push_manager_guest_view(m->pushes);
        g_autofree char *text = g_strdup_printf("%s %s", p->release_name, p->release_version);
        struct guest_status s = {0};

        g->ops->status(g->self, vm->name, &s);
        return s.connected && !p->options.dry_run && g_strcmp0(vm->last_release, text) == 0;
}

static gboolean skip_pushes(RolloutManager *m, const char *id, int wave, GError **error)
{
        g_autoptr(GPtrArray) pushes = catalogue_push_list(m->catalogue, id, error);

        if (!pushes)
                return FALSE;
        for (guint i = 0; i < pushes->len; i++) {
                const PushRecord *p = pushes->pdata[i];
                g_autoptr(VmRecord) vm = NULL;

                if (!p->held_back || (int)p->wave != wave)
                        continue;
                vm = catalogue_vm_get(m->catalogue, p->vm, NULL);
                if (vm && !is_on_release(m, vm, p))
                        continue;
                if (!catalogue_push_end_held_back(
                            m->catalogue, id, p->vm, PUSH_STATE_SKIPPED, MOULT_ERROR_UNSPECIFIED,
                            vm ? "it is on the release already" : "the VM was removed before its turn",
                            error))
                        return FALSE;
        }
        return TRUE;
}

static gboolean open_wave_rows(RolloutManager *m, RolloutRecord *r, int wave, GError **error)
{
        r->state = ROLLOUT_RUNNING;
        r->wave = wave;
        r->next_us = 0;
        return skip_pushes(m, r->operation, wave, error) &&
               catalogue_rollout_let_begin(m->catalogue, r->operation, wave, error) &&
               catalogue_rollout_update(m->catalogue, r, error);
}

static gboolean open_wave(RolloutManager *m, struct active *a, RolloutRecord *r, int wave, GError **error)
{
        if (!catalogue_begin(m->catalogue, error))
                return FALSE;
        if (!open_wave_rows(m, r, wave, error)) {
                catalogue_rollback(m->catalogue);
                return FALSE;
        }
        fault_point("rollout-wave");
        if (!catalogue_commit(m->catalogue, error))
                return FALSE;
        fault_point("rollout-wave-stored");
        event_log(EVENT_INFO, "rollout-wave", "a wave of a rollout begins", "operation", r->operation, NULL);
        a->taken_up = FALSE;
        return TRUE;
}

static gboolean stop(RolloutManager *m, RolloutRecord *r, const char *text, GError **error)
{
        r->state = ROLLOUT_STOPPED;
        g_free(r->text);
        r->text = g_strdup(text);
        if (!catalogue_rollout_update(m->catalogue, r, error))
                return FALSE;
        event_log(EVENT_WARNING, "rollout-stopped", text, "operation", r->operation, NULL);
        return TRUE;
}

/* In one turn of the loop, so that nothing begins between the question and the answer. */
static gboolean hold_back(RolloutManager *m, const RolloutRecord *r, GError **error)
{
        g_autoptr(GPtrArray) vms = push_manager_not_begun(m->pushes, r->operation);

        if (vms->len > 0 && !catalogue_rollout_hold_back(m->catalogue, r->operation, vms, error))
                return FALSE;
        push_manager_let_go(m->pushes, r->operation);
        return TRUE;
}

static gboolean pause_rollout(RolloutManager *m, RolloutRecord *r, GError **error)
{
        r->state = ROLLOUT_PAUSING;
        r->next_us = host_wall_us(m->env) + r->pause_ms * 1000;
        return catalogue_rollout_update(m->catalogue, r, error);
}

/* Something was changed there, so there is a generation to give back. */
static gboolean is_taken_back(RolloutManager *m, const PushRecord *p)
{
        g_autoptr(VmRecord) vm = catalogue_vm_get(m->catalogue, p->vm, NULL);

        return vm && p->state == PUSH_STATE_DONE && !p->options.dry_run && p->entries_change > 0 &&
               p->generation > 0;
}

static gboolean add_rollback_push(RolloutManager *m, const char *id, const PushRecord *p, GError **error)
{
        PushRecord back = {.operation = (char *)id, .vm = p->vm};

        back.options.rollback = TRUE;
        back.options.rollback_generation = p->generation;
        memcpy(back.options.rollback_of, p->push_id, sizeof back.options.rollback_of);
        back.options.confirm_timeout_ms = p->options.confirm_timeout_ms;
        host_random_fill(m->env, back.push_id, sizeof back.push_id);
        return catalogue_push_add(m->catalogue, &back, error);
}

static char *rollback_request(const RolloutRecord *r, const GPtrArray *pushes)
{
        JsonObject *o = json_object_new();
        JsonArray *vms = json_array_new();

        for (guint i = 0; i < pushes->len; i++)
                json_array_add_string_element(vms, ((PushRecord *)pushes->pdata[i])->vm);
        json_object_set_string_member(o, "rollout", r->operation);
        json_object_set_array_member(o, "vms", vms);
        return json_object_text(o);
}

/* With nobody to give back anything there is no operation. */
static gboolean take_back_rows(RolloutManager *m, RolloutRecord *r, GError **error)
{
        g_autoptr(GPtrArray) pushes = catalogue_push_list(m->catalogue, r->operation, error);
        g_autofree char *request = NULL;

        if (!pushes)
                return FALSE;
        for (guint i = pushes->len; i > 0; i--)
                if (!is_taken_back(m, pushes->pdata[i - 1]))
                        g_ptr_array_remove_index(pushes, i - 1);
        r->state = ROLLOUT_ROLLING_BACK;
        if (pushes->len > 0) {
                request = rollback_request(r, pushes);
                r->rollback = jobs_add(m->jobs, "rollback", request, error);
                if (!r->rollback)
                        return FALSE;
        }
        for (guint i = 0; i < pushes->len; i++)
                if (!add_rollback_push(m, r->rollback, pushes->pdata[i], error))
                        return FALSE;
        return catalogue_rollout_update(m->catalogue, r, error);
}

static gboolean take_back(RolloutManager *m, RolloutRecord *r, GError **error)
{
        if (!catalogue_begin(m->catalogue, error))
                return FALSE;
        if (!take_back_rows(m, r, error)) {
                catalogue_rollback(m->catalogue);
                return FALSE;
        }
        fault_point("rollout-take-back");
        return catalogue_commit(m->catalogue, error);
}

/* --- the end --- */

static OperationState operation_state_of(RolloutState state, const struct rollout_counts *n,
                                         const struct rollout_counts *back)
{
        if (state == ROLLOUT_ABORTED)
                return OPERATION_CANCELLED;
        if (state == ROLLOUT_ROLLED_BACK)
                return back->done == back->total ? OPERATION_CANCELLED : OPERATION_FAILED;
        if (n->done + n->skipped == n->total)
                return OPERATION_SUCCEEDED;
        return n->done + n->skipped > 0 ? OPERATION_PARTIAL : OPERATION_FAILED;
}

static GError *why_of(const RolloutRecord *r, OperationState state, const struct rollout_counts *n,
                      const struct rollout_counts *back)
{
        if (state == OPERATION_SUCCEEDED)
                return NULL;
        if (r->state == ROLLOUT_ROLLED_BACK)
                return g_error_new(MOULT_ERROR,
                                   state == OPERATION_FAILED ? MOULT_ERROR_REFUSED : MOULT_ERROR_CANCELLED,
                                   "%s: %u of %u VMs are back; 'moult jobs show %s' tells of each", r->text,
                                   back->done, back->total, r->rollback ? r->rollback : r->operation);
        if (r->state == ROLLOUT_ABORTED)
                return g_error_new(MOULT_ERROR, MOULT_ERROR_CANCELLED, "%s: %u of %u VMs have the release",
                                   r->text, n->done + n->skipped, n->total);
        return g_error_new(MOULT_ERROR, rollout_failures(n) > 0 ? MOULT_ERROR_HEALTH : MOULT_ERROR_TIMEOUT,
                           "%u of %u VMs failed, and %u could not be reached; the same command again goes to "
                           "those that are not on the release",
                           rollout_failures(n), n->total, n->unreachable);
}

static gboolean report(RolloutManager *m, const RolloutRecord *r, GError **error)
{
        struct rollout_counts n, back = {0};
        g_autoptr(GError) why = NULL;
        g_autofree char *result = NULL;
        OperationState final;

        if (!catalogue_rollout_count(m->catalogue, r->operation, -1, &n, error) ||
            (r->rollback && !catalogue_rollout_count(m->catalogue, r->rollback, -1, &back, error)))
                return FALSE;
        final = operation_state_of(r->state, &n, &back);
        why = why_of(r, final, &n, &back);
        result = json_object_text(rollout_record_to_json(r, &n));
        jobs_finish(m->jobs, r->operation, final, result, why);
        event_log(EVENT_INFO, "rollout-ended", "a rollout has ended", "operation", r->operation, "state",
                  rollout_state_name(r->state), "why", why ? why->message : "", NULL);
        return TRUE;
}

static gboolean end(RolloutManager *m, RolloutRecord *r, RolloutState state, GError **error)
{
        r->state = state;
        if (!catalogue_rollout_update(m->catalogue, r, error))
                return FALSE;
        fault_point("rollout-ended");
        return TRUE;
}

/* --- looking --- */

static gboolean gather(RolloutManager *m, const RolloutRecord *r, struct rollout_facts *f, GError **error)
{
        struct rollout_counts back;

        *f = (struct rollout_facts){.record = r, .now_us = host_wall_us(m->env)};
        if (!catalogue_rollout_count(m->catalogue, r->operation, -1, &f->all, error) ||
            (r->wave >= 0 && !catalogue_rollout_count(m->catalogue, r->operation, r->wave, &f->wave, error)))
                return FALSE;
        if (!r->rollback)
                return TRUE;
        if (!catalogue_rollout_count(m->catalogue, r->rollback, -1, &back, error))
                return FALSE;
        f->rollback_unfinished = back.running + back.waiting;
        return TRUE;
}

typedef enum { LOOK_AGAIN, LOOK_OVER, LOOK_ENDED, LOOK_FAILED } Look;

static Look done(gboolean ok, Look look)
{
        return ok ? look : LOOK_FAILED;
}

/* What cannot be aborted any more ends by itself. */
static gboolean store_abort(RolloutManager *m, const struct active *a, GError **error)
{
        g_autoptr(GError) why = NULL;

        if (rollout_abort(m->catalogue, a->id, FALSE, &why) ||
            g_error_matches(why, MOULT_ERROR, MOULT_ERROR_WRONG_STATE))
                return TRUE;
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
}

static Look take_step(RolloutManager *m, struct active *a, GError **error)
{
        g_autoptr(RolloutRecord) r = catalogue_rollout_get(m->catalogue, a->id, error);
        struct rollout_facts f;
        struct rollout_step s;
        g_autofree char *text = NULL;

        if (!r || !gather(m, r, &f, error))
                return LOOK_FAILED;
        if (rollout_state_is_final(r->state)) /* now, or when the last daemon died */
                return done(report(m, r, error), LOOK_ENDED);
        if (a->abort) {
                a->abort = !store_abort(m, a, error);
                return done(!a->abort, LOOK_AGAIN);
        }
        if (!a->taken_up) {
                a->taken_up = push_manager_take_up(m->pushes, a->id, error);
                return done(a->taken_up, LOOK_AGAIN);
        }
        if (r->state == ROLLOUT_ABORTING && !a->cancelled) {
                a->cancelled = TRUE;
                push_manager_cancel(m->pushes, a->id);
                return LOOK_AGAIN;
        }
        s = rollout_next(&f);
        text = s.text;
        switch (s.action) {
        case ROLLOUT_DO_WAIT:
                look_later(m, (r->next_us - f.now_us) / 1000 + 1);
                return LOOK_OVER;
        case ROLLOUT_DO_OPEN:
                return done(open_wave(m, a, r, s.wave, error), LOOK_AGAIN);
        case ROLLOUT_DO_PAUSE:
                return done(pause_rollout(m, r, error), LOOK_AGAIN);
        case ROLLOUT_DO_STOP:
                return done(stop(m, r, text, error), LOOK_AGAIN);
        case ROLLOUT_DO_HOLD_BACK:
                return done(hold_back(m, r, error), LOOK_OVER);
        case ROLLOUT_DO_TAKE_BACK:
                return done(take_back(m, r, error), LOOK_AGAIN);
        case ROLLOUT_DO_END:
                return done(end(m, r, s.state, error), LOOK_AGAIN);
        case ROLLOUT_DO_NOTHING:
        case ROLLOUT_DO_MAX:
                break;
        }
        return LOOK_OVER;
}

/* FALSE: it has ended. */
static gboolean look(RolloutManager *m, struct active *a)
{
        g_autoptr(GError) error = NULL;
        Look l;

        while ((l = take_step(m, a, &error)) == LOOK_AGAIN) {
        }
        a->stuck = l == LOOK_FAILED;
        if (a->stuck) {
                event_log(EVENT_ERROR, "rollout-not-stored",
                          "a rollout does not go on: the catalogue cannot be written or read; it is tried "
                          "again "
                          "each second. Look at the disk of the state directory",
                          "operation", a->id, "why", error->message, NULL);
                look_later(m, RETRY_MS);
        }
        return l != LOOK_ENDED;
}

static gboolean on_look(gpointer user)
{
        RolloutManager *m = user;

        host_timer_clear(&m->look);
        m->tally = catalogue_rollout_tally(m->catalogue);
        for (guint i = m->active->len; i > 0; i--)
                if (!look(m, m->active->pdata[i - 1]))
                        g_ptr_array_remove_index(m->active, i - 1);
        push_manager_go_on(m->pushes);
        return G_SOURCE_REMOVE;
}

static void on_catalogue(gint64 last_seq, gpointer user)
{
        RolloutManager *m = user;

        if (catalogue_rollout_tally(m->catalogue) != m->tally)
                look_soon(m);
}

static struct active *find_active(const RolloutManager *m, const char *id)
{
        for (guint i = 0; i < m->active->len; i++) {
                struct active *a = m->active->pdata[i];

                if (g_str_equal(a->id, id))
                        return a;
        }
        return NULL;
}

/* What was recorded since the last look may be a reason to stop. */
static gboolean may_begin(const char *operation, gpointer user)
{
        const RolloutManager *m = user;
        const struct active *a = find_active(m, operation);

        return !a || (!m->look && !a->stuck);
}

/* --- as a job --- */

static void begin(const OperationRecord *op, gpointer user)
{
        RolloutManager *m = user;
        struct active *a = g_new0(struct active, 1);

        a->id = g_strdup(op->id);
        g_ptr_array_add(m->active, a);
        look_soon(m);
}

/* `moult jobs cancel`. */
static void cancel(const OperationRecord *op, gpointer user)
{
        RolloutManager *m = user;
        struct active *a = find_active(m, op->id);

        if (!a)
                return; /* it has ended */
        a->abort = TRUE;
        look_soon(m);
}

static const struct job_kind rollout_kind = {"rollout", begin, begin, cancel};

RolloutManager *rollout_manager_new(const struct host_env *env, Catalogue *c, Jobs *jobs, PushManager *pushes)
{
        RolloutManager *m = g_new0(RolloutManager, 1);

        m->env = env;
        m->catalogue = c;
        m->jobs = jobs;
        m->pushes = pushes;
        m->active = g_ptr_array_new_with_free_func(active_free);
        catalogue_listen(c, on_catalogue, m);
        push_manager_set_gate(pushes, may_begin, m);
        jobs_register(jobs, &rollout_kind, m);
        return m;
}

void rollout_manager_free(RolloutManager *m)
{
        if (!m)
                return;
        catalogue_unlisten(m->catalogue, on_catalogue, m);
        push_manager_set_gate(m->pushes, NULL, NULL);
        host_timer_clear(&m->look);
        host_timer_clear(&m->wait);
        g_ptr_array_unref(m->active);
        g_free(m);
}
