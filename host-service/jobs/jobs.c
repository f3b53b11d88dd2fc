/* host-service/jobs/jobs.c - starting, resuming and ending operations. */
#include "host-service/jobs/jobs.h"

#include "common/events.h"

/* A catalogue that cannot be read or written now (disk full, I/O error) is tried again. */
#define RETRY_MS 1000

struct runner {
        const struct job_kind *kind;
        gpointer user;
};

enum what { START, RESUME, CANCEL };

/* Looked at from the loop, when the transaction that asked for it is over: only what is then on record is
 * done. */
struct pending {
        char *id;
        enum what what;
};

/* An end that the catalogue could not take yet (disk full): it is tried again. */
struct finish {
        char *id, *result;
        OperationState state;
        GError *why;
};

struct Jobs {
        const struct host_env *env;
        Catalogue *catalogue;
        GHashTable *runners; /* kind -> struct runner */
        GQueue pending;      /* struct pending */
        GQueue later;        /* likewise: the catalogue could not take it; RETRY_MS from then */
        GQueue unfinished;   /* struct finish */
        GSource *idle, *retry, *again;
        gboolean quiet;
};

static void pending_free(struct pending *p)
{
        g_free(p->id);
        g_free(p);
}

static void finish_free(struct finish *f)
{
        g_free(f->id);
        g_free(f->result);
        g_clear_error(&f->why);
        g_free(f);
}

Jobs *jobs_new(const struct host_env *env, Catalogue *c)
{
        Jobs *j = g_new0(Jobs, 1);

        j->env = env;
        j->catalogue = c;
        j->runners = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
        g_queue_init(&j->pending);
        g_queue_init(&j->later);
        g_queue_init(&j->unfinished);
        return j;
}

void jobs_quiet(Jobs *j)
{
        j->quiet = TRUE;
        host_timer_clear(&j->idle);
        host_timer_clear(&j->again);
}

void jobs_free(Jobs *j)
{
        if (!j)
                return;
        host_timer_clear(&j->idle);
        host_timer_clear(&j->retry);
        host_timer_clear(&j->again);
        g_queue_clear_full(&j->pending, (GDestroyNotify)pending_free);
        g_queue_clear_full(&j->later, (GDestroyNotify)pending_free);
        g_queue_clear_full(&j->unfinished, (GDestroyNotify)finish_free);
        g_hash_table_unref(j->runners);
        g_free(j);
}

void jobs_register(Jobs *j, const struct job_kind *kind, gpointer user)
{
        struct runner *r = g_new0(struct runner, 1);

        r->kind = kind;
        r->user = user;
        g_hash_table_insert(j->runners, (gpointer)kind->kind, r);
}

/* FALSE: the catalogue does not let us; nothing was done. */
static gboolean run(Jobs *j, const struct pending *p, GError **error)
{
        g_autoptr(GError) why = NULL;
        g_autoptr(OperationRecord) op = catalogue_operation_get(j->catalogue, p->id, &why);
        const struct runner *r;

        if (!op && !g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND)) {
                g_propagate_error(error, g_steal_pointer(&why));
                return FALSE;
        }
        /* No row, or no cancel in it: the transaction that was to write it was rolled back. */
        if (!op || operation_state_is_final(op->state) || (p->what == CANCEL && !op->cancel_requested))
                return TRUE;
        r = g_hash_table_lookup(j->runners, op->kind);
        if (p->what == CANCEL) {
                if (r && op->state == OPERATION_RUNNING)
                        r->kind->cancel(op, r->user);
                return TRUE;
        }
        if (!r) {
                why = g_error_new(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                                  "this moultd has nobody who runs operations of kind \"%s\"", op->kind);
                jobs_finish(j, op->id, OPERATION_FAILED, NULL, why);
                return TRUE;
        }
        if (op->state == OPERATION_QUEUED) {
                if (!catalogue_operation_set_state(j->catalogue, op->id, OPERATION_RUNNING, NULL, NULL,
                                                   error))
                        return FALSE;
                op->state = OPERATION_RUNNING;
        }
        if (p->what == RESUME)
                r->kind->resume(op, r->user);
        else
                r->kind->start(op, r->user);
        if (op->cancel_requested)
                r->kind->cancel(op, r->user);
        return TRUE;
}

static void begin_idle(Jobs *j);

static gboolean run_later(gpointer user)
{
        Jobs *j = user;
        struct pending *p;

        host_timer_clear(&j->again);
        while ((p = g_queue_pop_head(&j->later)))
                g_queue_push_tail(&j->pending, p);
        begin_idle(j);
        return G_SOURCE_REMOVE;
}

/* Its rows stay as they are: an operation that has not begun has not failed. */
static void put_off(Jobs *j, struct pending *p, const GError *why)
{
        event_log(EVENT_ERROR, "operation-put-off", why->message, "operation", p->id, NULL);
        g_queue_push_tail(&j->later, p);
        if (!j->again)
                j->again = host_timer_add(j->env, RETRY_MS, run_later, j);
}

static gboolean run_pending(gpointer user)
{
        Jobs *j = user;
        struct pending *p = g_queue_pop_head(&j->pending);
        g_autoptr(GError) error = NULL;

        /* One at a time: between two, the loop serves everybody else. */
        if (p && !run(j, p, &error))
                put_off(j, p, error);
        else if (p)
                pending_free(p);
        if (!g_queue_is_empty(&j->pending))
                return G_SOURCE_CONTINUE;
        g_clear_pointer(&j->idle, g_source_unref);
        return G_SOURCE_REMOVE;
}

static void begin_idle(Jobs *j)
{
        if (j->idle || j->quiet)
                return;
        j->idle = g_idle_source_new();
        g_source_set_callback(j->idle, run_pending, j, NULL);
        g_source_attach(j->idle, j->env->context);
}

static void enqueue(Jobs *j, const char *id, enum what what)
{
        struct pending *p = g_new0(struct pending, 1);

        p->id = g_strdup(id);
        p->what = what;
        g_queue_push_tail(&j->pending, p);
        begin_idle(j);
}

gboolean jobs_begin(Jobs *j, GError **error)
{
        g_autoptr(GPtrArray) open = catalogue_operation_unfinished(j->catalogue, error);

        if (!open)
                return FALSE;
        for (guint i = 0; i < open->len; i++) {
                const OperationRecord *op = g_ptr_array_index(open, i);

                enqueue(j, op->id, op->state == OPERATION_RUNNING ? RESUME : START);
        }
        return TRUE;
}

char *jobs_add(Jobs *j, const char *kind, const char *request, GError **error)
{
        return jobs_add_for(j, kind, request, NULL, error);
}

char *jobs_add_for(Jobs *j, const char *kind, const char *request, const char *guest, GError **error)
{
        g_autofree char *id = operation_id_new(j->catalogue);

        if (!catalogue_operation_add_for(j->catalogue, id, kind, request, guest, error))
                return NULL;
        enqueue(j, id, START);
        return g_steal_pointer(&id);
}

/* TRUE if there is nothing left to do for @f. */
static gboolean try_finish(Jobs *j, const struct finish *f)
{
        g_autoptr(GError) error = NULL;

        if (catalogue_operation_set_state(j->catalogue, f->id, f->state, f->result, f->why, &error))
                return TRUE;
        event_log(EVENT_ERROR, "operation-not-recorded", error->message, "operation", f->id, "state",
                  operation_state_name(f->state), NULL);
        return g_error_matches(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE) ||
               g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND);
}

static gboolean retry_finish(gpointer user)
{
        Jobs *j = user;

        while (!g_queue_is_empty(&j->unfinished)) {
                if (!try_finish(j, g_queue_peek_head(&j->unfinished)))
                        return G_SOURCE_CONTINUE;
                finish_free(g_queue_pop_head(&j->unfinished));
        }
        g_clear_pointer(&j->retry, g_source_unref);
        return G_SOURCE_REMOVE;
}

void jobs_finish(Jobs *j, const char *id, OperationState state, const char *result, const GError *why)
{
        struct finish *f = g_new0(struct finish, 1);

        f->id = g_strdup(id);
        f->state = state;
        f->result = g_strdup(result);
        f->why = why ? g_error_copy(why) : NULL;
        if (try_finish(j, f)) {
                finish_free(f);
                return;
        }
        g_queue_push_tail(&j->unfinished, f);
        if (!j->retry)
                j->retry = host_timer_add(j->env, RETRY_MS, retry_finish, j);
}

static gboolean holds(const GQueue *q, const char *id)
{
        for (const GList *l = q->head; l; l = l->next)
                if (g_str_equal(((const struct pending *)l->data)->id, id))
                        return TRUE;
        return FALSE;
}

gboolean jobs_cancel(Jobs *j, const char *id, GError **error)
{
        if (!catalogue_operation_request_cancel(j->catalogue, id, error))
                return FALSE;
        /* One that is still queued here is told by run(), after its start. */
        if (holds(&j->pending, id) || holds(&j->later, id))
                return TRUE;
        enqueue(j, id, CANCEL);
        return TRUE;
}
