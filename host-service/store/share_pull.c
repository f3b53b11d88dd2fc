/* host-service/store/share_pull.c - the job kind "store-pull". */
#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/store/chunk_file.h"
#include "host-service/store/seeds.h"
#include "host-service/store/share_task.h"

#define SEEDS_MAX 4 /* packs of the same name that are looked through for chunks */

struct pull_task {
        struct release_task r;
        GPtrArray *files; /* the seeds' */
        Seeds *seeds;
        int fd;      /* the new file */
        GError *why; /* while the new file is removed */
};

static void pull_clear(struct share_task *task)
{
        struct pull_task *t = (struct pull_task *)task;

        scoped_fd_close(&t->fd);
        g_clear_pointer(&t->seeds, seeds_free);
        g_clear_pointer(&t->files, g_ptr_array_unref);
        g_clear_error(&t->why);
        release_task_clear(&t->r);
}

static char *temp_name(const struct pull_task *t)
{
        return g_strconcat("importing-", t->r.task.job.id, ".tmp", NULL); /* release_import_temp_name() */
}

static gboolean fetch_index_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct pull_task *t = user;
        ObjectStore *o = t->r.task.owner->objects;
        g_autofree char *key = release_key(t->r.name, t->r.version);
        g_autoptr(GBytes) data = o->ops->get(o, key, CHUNK_INDEX_MAX_BYTES, cancellable, error);
        const char *why;
        gsize len;

        if (!data) {
                g_prefix_error(error, "the list of %s %s: ", t->r.name, t->r.version);
                return FALSE;
        }
        g_clear_pointer(&t->r.refs, g_array_unref);
        const guint8 *bytes = g_bytes_get_data(data, &len);
        why = chunk_index_parse(bytes, len, &t->r.refs);
        if (!why)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "%s: %s: %s", o->name, key, why);
        return FALSE;
}

/* What is here already need not travel. */
static gpointer seed_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct pull_task *t = data;
        const struct host_env *env = t->r.task.owner->env;
        g_autofree char *temp = temp_name(t);

        t->seeds = seeds_new(env);
        for (guint i = 0; i < t->files->len; i++)
                seeds_add(t->seeds, t->files->pdata[i], cancellable);
        release_task_find_unique(&t->r);
        /* An earlier start of the same operation may have been killed half-way. */
        if (!env->store->remove(env->self, temp, error))
                return NULL;
        t->fd = env->store->create(env->self, temp, error);
        return t->fd < 0 ? NULL : t;
}

static GBytes *get_chunk(struct pull_task *t, guint i, GCancellable *cancellable, GError **error)
{
        ObjectStore *o = t->r.task.owner->objects;
        const struct chunk_ref *r = &g_array_index(t->r.refs, struct chunk_ref, i);
        gsize len = release_task_ref_len(&t->r, i);
        GBytes *chunk = seeds_read(t->seeds, r->id, len);
        g_autofree char *key = chunk_key(r->id);
        g_autoptr(GBytes) stored = NULL;

        if (chunk)
                return chunk;
        stored = o->ops->get(o, key, OBJECT_MAX_BYTES, cancellable, error);
        chunk = stored ? chunk_unpack(stored, len, r->id, error) : NULL;
        if (chunk)
                release_task_count_moved(&t->r, g_bytes_get_size(stored));
        else
                g_prefix_error(error, "%s %s: %s: ", t->r.name, t->r.version, key);
        return chunk;
}

/* A chunk may stand at several places. */
static gboolean write_chunk(struct pull_task *t, guint first, GBytes *chunk, GError **error)
{
        gsize len;
        const void *data = g_bytes_get_data(chunk, &len);
        guint i = first;

        do {
                if (release_task_ref_len(&t->r, i) != len) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "the list of %s %s gives one chunk two lengths", t->r.name, t->r.version);
                        return FALSE;
                }
                if (!fd_pwrite_all(t->fd, data, len, (off_t)chunk_begin(t->r.refs, i), "the new pack", error))
                        return FALSE;
                share_task_count(&t->r.task, (gint64)len);
                i = g_array_index(t->r.same, guint, i);
        } while (i != 0);
        return TRUE;
}

static gboolean pull_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct pull_task *t = user;
        guint i = g_array_index(t->r.unique, guint, index);
        g_autoptr(GBytes) chunk = get_chunk(t, i, cancellable, error);

        if (!chunk || !write_chunk(t, i, chunk, error))
                return FALSE;
        fault_point("share-chunk-got");
        return TRUE;
}

static gpointer drop_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct pull_task *t = data;
        const struct host_env *env = t->r.task.owner->env;
        g_autofree char *temp = temp_name(t);

        env->store->remove(env->self, temp, NULL); /* else the next start does */
        return t;
}

static void on_dropped(gpointer result, GError *error, gpointer user)
{
        struct pull_task *t = user;

        share_task_finish(&t->r.task, release_task_counts(&t->r), t->why);
}

static void on_pulled(const GError *error, gpointer user)
{
        struct pull_task *t = user;
        Share *s = t->r.task.owner;
        g_autofree char *moved = g_strdup_printf("%" G_GINT64_FORMAT, t->r.moved),
                        *bytes = g_strdup_printf("%" G_GINT64_FORMAT, t->r.moved_bytes);

        t->r.task.transfer = NULL;
        if (error) {
                t->why = g_error_copy(error);
                s->env->worker->run(s->env->self, drop_work, t, NULL, on_dropped, t);
                return;
        }
        event_log(EVENT_INFO, "store-pulled", "the chunks of a release are here; now they are judged",
                  "release", t->r.name, "version", t->r.version, "fetched", moved, "bytes", bytes, NULL);
        fault_point("share-pulled");
        releases_take_in(s->releases, t->r.task.job.id, g_steal_fd(&t->fd), t->r.name, t->r.version);
        share_task_hand_over(&t->r.task); /* from here on the operation is the import's */
}

static void on_seeded(gpointer result, GError *error, gpointer user)
{
        struct pull_task *t = user;

        if (error) {
                share_task_finish(&t->r.task, NULL, error);
                return;
        }
        t->r.task.total = (gint64)chunk_begin(t->r.refs, t->r.refs->len);
        share_task_transfer(&t->r.task, t->r.unique->len, SHARE_PARALLEL, pull_step, on_pulled);
}

static void on_index(const GError *error, gpointer user)
{
        struct pull_task *t = user;
        Share *s = t->r.task.owner;
        g_autoptr(GPtrArray) here = NULL;

        t->r.task.transfer = NULL;
        if (error) {
                share_task_finish(&t->r.task, NULL, error);
                return;
        }
        here = catalogue_release_list(s->catalogue, t->r.name, NULL);
        for (guint i = 0; here && i < here->len && i < SEEDS_MAX; i++)
                g_ptr_array_add(t->files, g_strdup(((const ReleaseRecord *)here->pdata[i])->file));
        s->env->worker->run(s->env->self, seed_work, t, t->r.task.job.cancellable, on_seeded, t);
}

static void pull_start(const OperationRecord *op, gpointer user)
{
        Share *s = user;
        struct pull_task *t = release_task_new(s, op, sizeof *t, pull_clear, "pulling");
        g_autoptr(ReleaseRecord) r = catalogue_release_get(s->catalogue, t->r.name, t->r.version, NULL);
        JsonObject *o;

        t->fd = -1;
        t->files = g_ptr_array_new_with_free_func(g_free);
        if (!share_task_has_store(&t->r.task))
                return;
        if (!r) {
                share_task_transfer(&t->r.task, 1, 1, fetch_index_step, on_index);
                return;
        }
        o = json_object_new();
        json_object_set_object_member(o, "release", release_record_to_json(r));
        json_object_set_boolean_member(o, "already_there", TRUE);
        share_task_finish(&t->r.task, o, NULL);
}

const struct job_kind share_pull_kind = {"store-pull", pull_start, pull_start, share_cancel};
