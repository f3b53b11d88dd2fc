/* host-service/push/push_manager.c - runs the operations "push" and "rollback".
 *
 * Theory of operation: the catalogue's push rows are the work; `waiting` and `running` only say what this
 * process does of it now. A push ends by its final row; the operation ends when all of its rows are final,
 * which is looked up, not counted, so it makes no difference how often the daemon died in between.
 *
 * What had begun when the last daemon died goes on first, before any operation is taken up: its guest and its
 * place are taken, and a push of an earlier operation that only waits must not come in between. */
#include "host-service/push/push_manager.h"

#include <string.h>

#include "common/events.h"
#include "host-service/catalogue/json.h"
#include "host-service/push/guest_desk.h"
#include "host-service/push/leftovers.h"
#include "host-service/push/push.h"
#include "host-service/push/push_places.h"
#include "host-service/push/upgrade_request.h"
#include "host-service/push/vm_backings.h"
#include "host-service/push/vm_notes.h"
#include "host-service/push/vm_releases.h"

#define PATIENCE_DEFAULT_MS 60000u
#define STALL_DEFAULT_MS    300000u
#define CONCURRENT_DEFAULT  8u
#define STARTS_MAX          8u /* in one turn of the loop: each writes to the catalogue */
#define READ_AGAIN_MS       1000u

struct PushManager {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        Guests *guests;
        struct push_context context;
        guint concurrent;
        guint64 bytes;      /* staged at once; 0: any */
        GPtrArray *waiting; /* of Push, owned; oldest first */
        GPtrArray *running; /* of Push, owned */
        GSource *next;      /* starts what may start, from the loop */
        GPtrArray *unread;  /* of char *: operations whose pushes the catalogue could not tell */
        GSource *again;     /* looks at these once more */
        Leftovers *leftovers;
        VmNotes *notes;
        VmBackings *backings;
        GuestAsks *asks;
        VmReleases *releases;
        push_gate_func gate; /* or NULL */
        gpointer gate_user;
        push_vm_busy_func vm_busy; /* or NULL */
        gpointer vm_busy_user;
        struct guest_desk desk;
        struct guest_view view;
};

/* --- operations --- */

struct tally {
        guint done, cancelled, rolled_back, refused, failed, skipped, unfinished;
        const PushRecord *first_bad;
};

static struct tally count(const GPtrArray *pushes)
{
        struct tally t = {0};

        for (guint i = 0; i < pushes->len; i++) {
                const PushRecord *r = pushes->pdata[i];

                if (r->state == PUSH_STATE_DONE)
                        t.done++;
                else if (r->state == PUSH_STATE_CANCELLED)
                        t.cancelled++;
                else if (r->state == PUSH_STATE_ROLLED_BACK)
                        t.rolled_back++;
                else if (r->state == PUSH_STATE_REFUSED)
                        t.refused++;
                else if (r->state == PUSH_STATE_FAILED)
                        t.failed++;
                else if (r->state == PUSH_STATE_SKIPPED)
                        t.skipped++;
                else
                        t.unfinished++;
                if (!t.first_bad && r->state > PUSH_STATE_DONE && r->state != PUSH_STATE_CANCELLED &&
                    r->state != PUSH_STATE_SKIPPED)
                        t.first_bad = r;
        }
        return t;
}

static OperationState state_of(const struct tally *t, guint total)
{
        if (t->done == total)
                return OPERATION_SUCCEEDED;
        if (t->done > 0)
                return OPERATION_PARTIAL;
        return t->first_bad ? OPERATION_FAILED : OPERATION_CANCELLED;
}

static char *result_text(const struct tally *t)
{
        JsonObject *o = json_object_new();

        json_object_set_int_member(o, "done", t->done);
        json_object_set_int_member(o, "rolled_back", t->rolled_back);
        json_object_set_int_member(o, "refused", t->refused);
        json_object_set_int_member(o, "failed", t->failed);
        json_object_set_int_member(o, "cancelled", t->cancelled);
        return json_object_text(o);
}

static gboolean on_again(gpointer user);

/* An operation that cannot be looked at now (an I/O error) has not failed: its pushes are rows like before.
 */
static void look_again_later(PushManager *m, const char *operation, const GError *why)
{
        event_log(EVENT_ERROR, "operation-unreadable", why->message, "operation", operation, NULL);
        if (g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                return;
        g_ptr_array_add(m->unread, g_strdup(operation));
        if (!m->again)
                m->again = host_timer_add(m->env, READ_AGAIN_MS, on_again, m);
}

static gboolean is_of(const GPtrArray *pushes, const char *operation)
{
        for (guint i = 0; i < pushes->len; i++)
                if (g_str_equal(push_record(pushes->pdata[i])->operation, operation))
                        return TRUE;
        return FALSE;
}

/* Ends the operation if all of its pushes have ended. Its rows are read once, when we know of no unfinished
 * one any more, and not at the end of each. */
static void finish_if_over(PushManager *m, const char *operation)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(OperationRecord) op = NULL;
        g_autoptr(GPtrArray) pushes = NULL;
        g_autofree char *result = NULL;
        struct tally t;

        if (is_of(m->running, operation) || is_of(m->waiting, operation))
                return;
        op = catalogue_operation_get(m->catalogue, operation, &error);
        if (op && g_str_equal(op->kind, "rollout"))
                return; /* more than its pushes: rollout/ ends it */
        pushes = op ? catalogue_push_list(m->catalogue, operation, &error) : NULL;
        if (!pushes) {
                look_again_later(m, operation, error);
                return;
        }
        t = count(pushes);
        if (t.unfinished > 0)
                return;
        result = result_text(&t);
        if (pushes->len == 0)
                error = g_error_new(MOULT_ERROR, MOULT_ERROR_MALFORMED, "the operation has no pushes");
        else if (t.first_bad)
                error = g_error_new(MOULT_ERROR, (gint)t.first_bad->error, "VM %s: %s", t.first_bad->vm,
                                    t.first_bad->text ? t.first_bad->text
                                                      : push_state_name(t.first_bad->state));
        jobs_finish(m->jobs, operation, pushes->len ? state_of(&t, pushes->len) : OPERATION_FAILED, result,
                    error);
}

static gboolean is_busy(const PushManager *m, const char *vm)
{
        for (guint i = 0; i < m->running->len; i++)
                if (g_str_equal(push_record(m->running->pdata[i])->vm, vm))
                        return TRUE;
        return FALSE;
}

static gboolean may_talk(PushManager *m, const struct push_places *n, const Push *p)
{
        return push_places_fit(n, p, m->concurrent, m->bytes) && vm_backings_fit(m->backings, m->running, p);
}

static gboolean may_begin(const Push *p, gpointer user)
{
        const PushManager *m = user;

        if (push_has_begun(p))
                return TRUE;
        return (!m->gate || m->gate(push_record(p)->operation, m->gate_user)) &&
               (!m->vm_busy || !m->vm_busy(push_record(p)->vm, m->vm_busy_user));
}

static gboolean has_place(const Push *p, gpointer user)
{
        PushManager *m = user;
        struct push_places n = push_places_taken(m->running);

        return may_begin(p, m) && may_talk(m, &n, p);
}

static gboolean on_next(gpointer user);

static void start_more(gpointer user)
{
        PushManager *m = user;

        if (!m->next)
                m->next = host_timer_add(m->env, 0, on_next, m);
}

/* Each may end, and so change both lists: they are looked through anew. */
static void start_waiting(PushManager *m)
{
        guint started = 0;

        for (guint i = 0; i < m->waiting->len;) {
                Push *p = m->waiting->pdata[i];

                if (is_busy(m, push_record(p)->vm)) {
                        i++;
                        continue;
                }
                if (started++ == STARTS_MAX) {
                        start_more(m);
                        return;
                }
                g_ptr_array_add(m->running, g_ptr_array_steal_index(m->waiting, i));
                if (push_record(p)->state > PUSH_STATE_CONNECT)
                        vm_backings_ask(m->backings, push_record(p)->vm);
                push_start(p);
                i = 0;
        }
}

/* Hundreds may wait: places are counted when one was given, not for each who asks. */
static void give_places(PushManager *m)
{
        struct push_places n = push_places_taken(m->running);

        for (guint i = 0; i < m->running->len && (n.taken == 0 || n.taken < m->concurrent);) {
                Push *p = m->running->pdata[i];

                if (!push_wants_place(p) || !may_begin(p, m) || !may_talk(m, &n, p)) {
                        i++;
                        continue;
                }
                push_take_place(p); /* may end, and change the list */
                n = push_places_taken(m->running);
                i = 0;
        }
}

static gboolean on_next(gpointer user)
{
        PushManager *m = user;

        host_timer_clear(&m->next);
        give_places(m);
        start_waiting(m);
        return G_SOURCE_REMOVE;
}

static void log_end(const PushRecord *r)
{
        gboolean good = r->state == PUSH_STATE_DONE;

        event_log(good ? EVENT_INFO : EVENT_NOTICE, good ? "push-done" : "push-not-done",
                  good ? "a push has ended well" : "a push has ended otherwise", "vm", r->vm, "operation",
                  r->operation, "state", push_state_name(r->state), "why", r->text ? r->text : "", NULL);
}

static void on_ended(Push *p, gpointer user)
{
        PushManager *m = user;
        const PushRecord *r = push_record(p);
        g_autofree char *operation = g_strdup(r->operation), *vm = g_strdup(r->vm);

        log_end(r);
        if (r->plug)
                leftovers_add(m->leftovers, r->vm, r->digest);
        else if (push_saw_unplugged(p))
                leftovers_gone(m->leftovers, r->vm);
        if (!g_ptr_array_remove(m->running, p))
                g_ptr_array_remove(m->waiting, p);
        leftovers_try(m->leftovers, vm);
        vm_backings_forget(m->backings, vm);
        vm_releases_ask(m->releases, vm);
        finish_if_over(m, operation);
        start_more(m);
}

static gboolean has_push(const PushManager *m, const PushRecord *r)
{
        const GPtrArray *lists[] = {m->waiting, m->running};

        for (guint l = 0; l < G_N_ELEMENTS(lists); l++)
                for (guint i = 0; i < lists[l]->len; i++)
                        if (memcmp(push_record(lists[l]->pdata[i])->push_id, r->push_id,
                                   sizeof(r->push_id)) == 0)
                                return TRUE;
        return FALSE;
}

gboolean push_manager_take_up(PushManager *m, const char *operation, GError **error)
{
        g_autoptr(GPtrArray) pushes = catalogue_push_list(m->catalogue, operation, error);

        if (!pushes)
                return FALSE;
        for (guint i = 0; i < pushes->len;) {
                PushRecord *r = pushes->pdata[i];

                if (push_state_is_final(r->state) || r->held_back || has_push(m, r)) {
                        i++;
                        continue;
                }
                g_ptr_array_steal_index(pushes, i);
                g_ptr_array_add(m->waiting, push_new(&m->context, r, on_ended, m));
        }
        start_more(m);
        return TRUE;
}

/* Their operations are taken up later, and find them here. */
static gboolean take_up_begun(PushManager *m, GError **error)
{
        g_autoptr(GPtrArray) pushes = catalogue_push_list_begun(m->catalogue, error);

        if (!pushes)
                return FALSE;
        while (pushes->len > 0)
                g_ptr_array_add(m->waiting,
                                push_new(&m->context, g_ptr_array_steal_index(pushes, 0), on_ended, m));
        start_more(m);
        return TRUE;
}

static void take_up_pushes(PushManager *m, const char *operation)
{
        g_autoptr(GError) error = NULL;

        if (push_manager_take_up(m, operation, &error))
                finish_if_over(m, operation);
        else
                look_again_later(m, operation, error);
}

static void take_up(const OperationRecord *op, gpointer user)
{
        take_up_pushes(user, op->id);
}

static gboolean on_again(gpointer user)
{
        PushManager *m = user;
        g_autoptr(GPtrArray) unread = g_steal_pointer(&m->unread);

        m->unread = g_ptr_array_new_with_free_func(g_free);
        host_timer_clear(&m->again);
        for (guint i = 0; i < unread->len; i++)
                take_up_pushes(m, unread->pdata[i]);
        return G_SOURCE_REMOVE;
}

/* Lists change while pushes end: each is looked for anew. */
static Push *find_uncancelled(PushManager *m, const char *operation, GHashTable *seen)
{
        GPtrArray *lists[] = {m->waiting, m->running};

        for (guint l = 0; l < G_N_ELEMENTS(lists); l++)
                for (guint i = 0; i < lists[l]->len; i++) {
                        Push *p = lists[l]->pdata[i];

                        if (g_str_equal(push_record(p)->operation, operation) && g_hash_table_add(seen, p))
                                return p;
                }
        return NULL;
}

void push_manager_cancel(PushManager *m, const char *operation)
{
        g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
        Push *p;

        while ((p = find_uncancelled(m, operation, seen)))
                push_cancel(p);
}

static void cancel(const OperationRecord *op, gpointer user)
{
        push_manager_cancel(user, op->id);
}

/* --- of rollouts --- */

void push_manager_set_gate(PushManager *m, push_gate_func gate, gpointer user)
{
        m->gate = gate;
        m->gate_user = user;
}

void push_manager_set_vm_busy(PushManager *m, push_vm_busy_func busy, gpointer user)
{
        m->vm_busy = busy;
        m->vm_busy_user = user;
}

void push_manager_go_on(PushManager *m)
{
        start_more(m);
}

GPtrArray *push_manager_not_begun(const PushManager *m, const char *operation)
{
        const GPtrArray *lists[] = {m->waiting, m->running};
        GPtrArray *names = g_ptr_array_new_with_free_func(g_free);

        for (guint l = 0; l < G_N_ELEMENTS(lists); l++)
                for (guint i = 0; i < lists[l]->len; i++) {
                        const Push *p = lists[l]->pdata[i];

                        if (g_str_equal(push_record(p)->operation, operation) && !push_has_begun(p))
                                g_ptr_array_add(names, g_strdup(push_record(p)->vm));
                }
        return names;
}

/* When its turn comes again that one is not what was there before it. */
static void forget_snapshot(PushManager *m, const PushRecord *r)
{
        g_autoptr(GError) error = NULL;

        if (r->snapshot && !catalogue_push_set_snapshot(m->catalogue, r->push_id, NULL, NULL, &error))
                event_log(EVENT_WARNING, "push-snapshot-kept", error->message, "vm", r->vm, NULL);
}

void push_manager_let_go(PushManager *m, const char *operation)
{
        GPtrArray *lists[] = {m->waiting, m->running};

        for (guint l = 0; l < G_N_ELEMENTS(lists); l++)
                for (guint i = lists[l]->len; i > 0; i--) {
                        const Push *p = lists[l]->pdata[i - 1];

                        if (!g_str_equal(push_record(p)->operation, operation) || push_has_begun(p))
                                continue;
                        forget_snapshot(m, push_record(p));
                        g_ptr_array_remove_index(lists[l], i - 1);
                }
        start_more(m); /* who waited for such a VM may begin */
}

static const struct job_kind push_kind = {"push", take_up, take_up, cancel};
static const struct job_kind rollback_kind = {"rollback", take_up, take_up, cancel};

/* --- guests --- */

static Push *running_push(PushManager *m, const char *vm)
{
        for (guint i = 0; i < m->running->len; i++)
                if (g_str_equal(push_record(m->running->pdata[i])->vm, vm))
                        return m->running->pdata[i];
        return NULL;
}

static void on_session(const char *vm, GuestSessionKind kind, gpointer user)
{
        PushManager *m = user;
        Push *p = running_push(m, vm);

        if (!guests_session(m->guests, vm, kind))
                catalogue_vm_touch(m->catalogue, vm, NULL); /* so much later is no great loss */
        if (p)
                push_session_changed(p, kind);
        else if (guests_session(m->guests, vm, kind))
                vm_releases_ask(m->releases, vm);
}

static void on_state(const char *vm, const Moult__TransactionState *state, gpointer user)
{
        PushManager *m = user;
        Push *p = running_push(m, vm);

        if (p)
                push_state_received(p, state);
        else if (state->phase == MOULT__TRANSACTION_PHASE__PHASE_COMMITTED ||
                 state->phase == MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK)
                vm_releases_ask(m->releases, vm); /* by the guest's own doing */
}

static gboolean has_window(const char *vm, gpointer user)
{
        const Push *p = running_push(user, vm);

        return p && push_may_map(p);
}

static void on_window_gone(const char *vm, gpointer user)
{
        leftovers_try(((PushManager *)user)->leftovers, vm);
}

static void on_upgrade_request(const char *vm, Session *session, const Message *request, gpointer user)
{
        PushManager *m = user;
        g_autoptr(GError) error = NULL;
        g_autofree char *operation = NULL;
        gboolean merged = FALSE;

        if (!vm_notes_may_request(m->notes, vm))
                error = g_error_new(MOULT_ERROR, MOULT_ERROR_BUSY, "too many requests; wait a minute");
        else
                operation = upgrade_request_accept(m->env, m->catalogue, m->jobs, vm,
                                                   request->upgrade_request, &merged, &error);
        if (!operation) {
                session_reply_error(session, request, error);
                return;
        }
        event_log(EVENT_INFO, "upgrade-requested",
                  merged ? "a guest asked for an upgrade that is on its way already"
                         : "a guest asked for an upgrade",
                  "vm", vm, "operation", operation, NULL);
        session_reply_ack(session, request);
}

static const struct guests_events guests_events = {
        .up = on_session,
        .down = on_session,
        .state = on_state,
        .upgrade_request = on_upgrade_request,
        .window_gone = on_window_gone,
};

/* --- what the API asks --- */

static char *mapped_by(gpointer user, const guint8 digest[static 32])
{
        PushManager *m = user;
        const GPtrArray *lists[] = {m->waiting, m->running};

        for (guint l = 0; l < G_N_ELEMENTS(lists); l++)
                for (guint i = 0; i < lists[l]->len; i++) {
                        const Push *p = lists[l]->pdata[i];

                        if (push_may_map(p) && memcmp(push_record(p)->digest, digest, DIGEST_SIZE) == 0)
                                return g_strdup(push_record(p)->vm);
                }
        return g_strdup(leftovers_find_digest(m->leftovers, digest));
}

static char *pushed_by(gpointer user, const char *vm)
{
        PushManager *m = user;
        const GPtrArray *lists[] = {m->waiting, m->running};

        for (guint l = 0; l < G_N_ELEMENTS(lists); l++)
                for (guint i = 0; i < lists[l]->len; i++) {
                        const Push *p = lists[l]->pdata[i];

                        if (push_is_under_way(p) && g_str_equal(push_record(p)->vm, vm))
                                return g_strdup(push_record(p)->operation);
                }
        return NULL;
}

const struct guest_view *push_manager_guest_view(PushManager *m)
{
        return &m->view;
}

/* --- life --- */

PushManager *push_manager_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                              const struct push_manager_config *config, GError **error)
{
        PushManager *m = g_new0(PushManager, 1);
        struct guests_config guests = {config->identity, config->tls_endpoints};

        m->env = env;
        m->catalogue = c;
        m->jobs = jobs;
        m->concurrent = config->concurrent ? config->concurrent : CONCURRENT_DEFAULT;
        m->bytes = config->concurrent_bytes;
        m->waiting = g_ptr_array_new_with_free_func((GDestroyNotify)push_free);
        m->running = g_ptr_array_new_with_free_func((GDestroyNotify)push_free);
        m->unread = g_ptr_array_new_with_free_func(g_free);
        m->guests = guests_new(env, c, &guests, &guests_events, m);
        m->context = (struct push_context){.env = env,
                                           .catalogue = c,
                                           .jobs = jobs,
                                           .guests = m->guests,
                                           .has_place = has_place,
                                           .may_begin = may_begin,
                                           .place_left = start_more,
                                           .user = m,
                                           .stall_ms = config->stall_ms ? config->stall_ms : STALL_DEFAULT_MS,
                                           .patience_ms = config->patience_ms ? config->patience_ms
                                                                              : PATIENCE_DEFAULT_MS};
        m->leftovers = leftovers_new(env, c, m->guests, has_window, m);
        m->notes = vm_notes_new(env, m->guests);
        m->backings = vm_backings_new(m->guests, config->per_backing, start_more, m);
        m->asks = guest_asks_new(env);
        m->releases = vm_releases_new(env, c, m->guests, m->asks);
        m->desk = (struct guest_desk){m->guests,    m->notes,  m->backings, m->asks,
                                      m->leftovers, mapped_by, pushed_by,   m};
        m->view = guest_desk_view(&m->desk);
        jobs_register(jobs, &push_kind, m);
        jobs_register(jobs, &rollback_kind, m);
        if (!take_up_begun(m, error)) {
                push_manager_free(m);
                return NULL;
        }
        return m;
}

void push_manager_begin(PushManager *m)
{
        g_autoptr(GError) error = NULL;

        if (!guests_begin(m->guests, &error)) {
                event_log(EVENT_ERROR, "guests-listen-failed", "agents cannot connect over the network",
                          "why", error->message, NULL);
                g_clear_error(&error);
        }
        leftovers_begin(m->leftovers);
}

void push_manager_free(PushManager *m)
{
        if (!m)
                return;
        host_timer_clear(&m->next);
        host_timer_clear(&m->again);
        g_ptr_array_unref(m->unread);
        g_ptr_array_unref(m->running);
        g_ptr_array_unref(m->waiting);
        guest_asks_free(m->asks);
        vm_releases_free(m->releases);
        leftovers_free(m->leftovers);
        /* The hypervisors' pending callbacks go with them; the notes are what these would write to. */
        guests_free(m->guests);
        vm_notes_free(m->notes);
        vm_backings_free(m->backings);
        g_free(m);
}
