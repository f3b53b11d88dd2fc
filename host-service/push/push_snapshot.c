/* host-service/push/push_snapshot.c - a snapshot, then the push. */
#include "host-service/push/push_snapshot.h"

#include "common/error.h"
#include "common/fault.h"
#include "host-service/catalogue/json.h"

/* The operation's row is looked at; a snapshot takes from some tenths of a second on. */
#define LOOK_MS 100u

struct PushSnapshot {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        PushRecord *r;
        push_snapshot_done_func done;
        gpointer user;
        GSource *look;
        gboolean taken;
};

gboolean push_snapshot_is_due(const PushRecord *r)
{
        return r->options.snapshot && !r->options.dry_run && !r->options.rollback &&
               r->state == PUSH_STATE_CONNECT;
}

/* Names what comes after it, and sorts. */
static char *name_for(const PushSnapshot *s)
{
        g_autoptr(GDateTime) t = g_date_time_new_from_unix_utc(host_wall_us(s->env) / G_USEC_PER_SEC);
        g_autofree char *when = g_date_time_format(t, "%Y%m%d-%H%M%S");

        return g_strdup_printf("%s-before-push", when);
}

static char *request(const PushSnapshot *s, const char *name)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "vm", s->r->vm);
        json_object_set_string_member(o, "name", name);
        return json_object_text(o);
}

/* Both rows or none. */
static gboolean add(PushSnapshot *s, GError **error)
{
        g_autofree char *name = name_for(s), *text = request(s, name), *id = NULL;

        if (!catalogue_begin(s->catalogue, error))
                return FALSE;
        id = jobs_add(s->jobs, "snapshot-create", text, error);
        if (!id || !catalogue_push_set_snapshot(s->catalogue, s->r->push_id, id, name, error)) {
                catalogue_rollback(s->catalogue);
                return FALSE;
        }
        fault_point("push-snapshot");
        if (!catalogue_commit(s->catalogue, error))
                return FALSE;
        fault_point("push-snapshot-stored");
        g_free(s->r->snapshot);
        g_free(s->r->snapshot_name);
        s->r->snapshot = g_steal_pointer(&id);
        s->r->snapshot_name = g_steal_pointer(&name);
        return TRUE;
}

/* FALSE without @error: it is not over. */
static gboolean is_over(PushSnapshot *s, GError **error)
{
        g_autoptr(OperationRecord) op = NULL;

        if (!s->r->snapshot) {
                add(s, error);
                return FALSE;
        }
        op = catalogue_operation_get(s->catalogue, s->r->snapshot, error);
        if (!op || !operation_state_is_final(op->state))
                return FALSE;
        if (op->state != OPERATION_SUCCEEDED)
                g_set_error(error, MOULT_ERROR, op->error ? (gint)op->error : MOULT_ERROR_CANCELLED, "%s",
                            op->text ? op->text : "it was cancelled");
        return op->state == OPERATION_SUCCEEDED;
}

static gboolean on_look(gpointer user)
{
        PushSnapshot *s = user;
        g_autoptr(GError) error = NULL;

        s->taken = is_over(s, &error);
        if (!s->taken && !error)
                return G_SOURCE_CONTINUE;
        host_timer_clear(&s->look);
        if (error)
                g_prefix_error(&error,
                               "the push was not begun, since no snapshot could be taken before it: ");
        s->done(error, s->user); /* may free us */
        return G_SOURCE_REMOVE;
}

PushSnapshot *push_snapshot_new(const struct host_env *env, Catalogue *c, Jobs *jobs, PushRecord *r,
                                push_snapshot_done_func done, gpointer user)
{
        PushSnapshot *s = g_new0(PushSnapshot, 1);

        s->env = env;
        s->catalogue = c;
        s->jobs = jobs;
        s->r = r;
        s->done = done;
        s->user = user;
        s->look = host_timer_add(env, LOOK_MS, on_look, s);
        return s;
}

void push_snapshot_free(PushSnapshot *s)
{
        if (!s)
                return;
        host_timer_clear(&s->look);
        g_free(s);
}

gboolean push_snapshot_is_taken(const PushSnapshot *s)
{
        return s && s->taken;
}
