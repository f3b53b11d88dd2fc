/* host-service/store/share_push.c - the job kind "store-push". */
#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/store/chunk_file.h"
#include "host-service/store/chunk_push.h"
#include "host-service/store/share_task.h"

struct push_task {
        struct release_task r;
        char *file; /* the pack */
        guint64 size;
        int fd;
        struct chunk_push push;
        gboolean is_there;   /* the store has this very release */
        gboolean confirming; /* the list is put */
};

static void push_clear(struct share_task *task)
{
        struct push_task *t = (struct push_task *)task;

        scoped_fd_close(&t->fd);
        g_free(t->file);
        release_task_clear(&t->r);
}

static gpointer cut_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct push_task *t = data;
        const struct host_env *env = t->r.task.owner->env;

        t->fd = env->store->open(env->self, t->file, error);
        if (t->fd < 0 || !chunk_file_cut(t->fd, t->size, t->r.refs, &t->r.task.done, cancellable, error))
                return NULL;
        release_task_find_unique(&t->r);
        return t;
}

/* A release never changes: another one under its name is not overwritten. */
static gboolean check_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct push_task *t = user;
        ObjectStore *o = t->r.task.owner->objects;
        g_autofree char *key = release_key(t->r.name, t->r.version);
        g_autoptr(GError) why = NULL;

        t->push.objects = o;
        if (!chunk_push_begin(&t->push, cancellable, error))
                return FALSE;
        g_autoptr(GBytes) there = o->ops->get(o, key, CHUNK_INDEX_MAX_BYTES, cancellable, &why);
        g_autoptr(GBytes) ours = chunk_index_encode(t->r.refs);

        t->is_there = there && g_bytes_equal(there, ours);
        if (t->is_there || g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                return TRUE;
        if (why)
                g_propagate_error(error, g_steal_pointer(&why));
        else
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s holds another release as %s %s; a release never changes: give this one "
                            "another version",
                            o->name, t->r.name, t->r.version);
        return FALSE;
}

static GBytes *read_chunk(gpointer user, guint which, GCancellable *cancellable, GError **error)
{
        struct push_task *t = user;

        return chunk_file_read(t->fd, chunk_begin(t->r.refs, which), release_task_ref_len(&t->r, which),
                               g_array_index(t->r.refs, struct chunk_ref, which).id, error);
}

static gboolean push_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct push_task *t = user;
        guint i = g_array_index(t->r.unique, guint, index);
        gsize sent;

        if (!chunk_push_one(&t->push, g_array_index(t->r.refs, struct chunk_ref, i).id, read_chunk, t, i,
                            &sent, cancellable, error))
                return FALSE;
        if (sent > 0)
                release_task_count_moved(&t->r, sent);
        if (!t->confirming)
                share_task_count(&t->r.task, (gint64)release_task_ref_len(&t->r, i));
        return TRUE;
}

static gboolean index_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct push_task *t = user;
        ObjectStore *o = t->r.task.owner->objects;
        g_autofree char *key = release_key(t->r.name, t->r.version);
        g_autoptr(GBytes) ours = chunk_index_encode(t->r.refs);

        fault_point("share-index");
        return o->ops->put(o, key, ours, cancellable, error);
}

static void push_over(struct push_task *t)
{
        JsonObject *o = release_task_counts(&t->r);

        json_object_set_boolean_member(o, "already_there", t->is_there);
        event_log(EVENT_INFO, "store-pushed", "the shared store has the release", "release", t->r.name,
                  "version", t->r.version, "store", t->r.task.owner->objects->name, NULL);
        share_task_finish(&t->r.task, o, NULL);
}

static void on_confirmed(const GError *error, gpointer user)
{
        struct push_task *t = user;

        t->r.task.transfer = NULL;
        if (error)
                share_task_finish(&t->r.task, release_task_counts(&t->r), error);
        else
                push_over(t);
}

/* Chunks that were there before us are looked at again, now that a list names them: a collection of garbage
 * may just have been about to remove one. */
static void on_indexed(const GError *error, gpointer user)
{
        struct push_task *t = user;

        t->r.task.transfer = NULL;
        t->confirming = TRUE;
        if (error)
                share_task_finish(&t->r.task, NULL, error);
        else if (t->push.reused)
                share_task_transfer(&t->r.task, t->r.unique->len, SHARE_PARALLEL, push_step, on_confirmed);
        else
                push_over(t);
}

static void on_pushed(const GError *error, gpointer user)
{
        struct push_task *t = user;

        t->r.task.transfer = NULL;
        if (error)
                share_task_finish(&t->r.task, release_task_counts(&t->r), error);
        else if (t->is_there)
                push_over(t);
        else
                share_task_transfer(&t->r.task, 1, 1, index_step, on_indexed);
}

static void on_checked(const GError *error, gpointer user)
{
        struct push_task *t = user;

        t->r.task.transfer = NULL;
        if (error)
                share_task_finish(&t->r.task, NULL, error);
        else /* also if it is there: what it has lost is put back */
                share_task_transfer(&t->r.task, t->r.unique->len, SHARE_PARALLEL, push_step, on_pushed);
}

static void on_cut(gpointer result, GError *error, gpointer user)
{
        struct push_task *t = user;

        if (error)
                share_task_finish(&t->r.task, NULL, error);
        else
                share_task_transfer(&t->r.task, 1, 1, check_step, on_checked);
}

static void push_start(const OperationRecord *op, gpointer user)
{
        Share *s = user;
        struct push_task *t = release_task_new(s, op, sizeof *t, push_clear, "pushing");
        g_autoptr(GError) error = NULL;
        g_autoptr(ReleaseRecord) r = NULL;

        t->fd = -1;
        if (!share_task_has_store(&t->r.task))
                return;
        r = catalogue_release_get(s->catalogue, t->r.name, t->r.version, &error);
        if (!r) {
                share_task_finish(&t->r.task, NULL, error);
                return;
        }
        t->file = g_strdup(r->file);
        t->size = r->size;
        t->r.task.total = 2 * (gint64)r->size; /* read, then sent */
        s->env->worker->run(s->env->self, cut_work, t, t->r.task.job.cancellable, on_cut, t);
}

const struct job_kind share_push_kind = {"store-push", push_start, push_start, share_cancel};
