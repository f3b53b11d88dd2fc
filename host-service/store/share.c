/* host-service/store/share.c - the job kinds "store-push" and "store-pull". */
#include "host-service/store/share.h"

#include <fcntl.h>
#include <string.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/catalogue/json.h"
#include "host-service/store/chunk_cut.h"
#include "host-service/store/chunk_file.h"
#include "host-service/store/transfer.h"

#define PROGRESS_MS 500
#define PARALLEL    4
#define SEEDS_MAX   4 /* packs of the same name that are looked through for chunks */

struct Share {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        Releases *releases;
        ObjectStore *objects;
        GPtrArray *tasks; /* of struct task */
        gboolean ending;
};

/* Where a chunk is, in a pack that is here. */
struct seed {
        int fd;
        uint64_t offset;
};

struct task {
        Share *owner;
        gboolean pull, asked, in_thread;
        char *id, *name, *version, *what;
        GPtrArray *files;  /* in the store: the pack; pull: the seeds' */
        guint64 size;      /* push: of the pack */
        int fd;            /* push: the pack; pull: the new file */
        GArray *fds;       /* pull: of the seeds */
        GArray *refs;      /* of struct chunk_ref: the release */
        GArray *unique;    /* of guint: the first ref of each chunk */
        GArray *same;      /* of guint, for each ref: the next one of the same chunk; 0: none */
        GHashTable *seeds; /* id -> struct seed; its keys are in seed_refs */
        GPtrArray *seed_refs;
        GCancellable *cancellable;
        Transfer *transfer;
        GSource *timer;
        gboolean is_there;                             /* push: the store has this very release */
        gint64 done, total, shown, moved, moved_bytes; /* atomic */
};

static void task_free(gpointer p)
{
        struct task *t = p;

        host_timer_clear(&t->timer);
        scoped_fd_close(&t->fd);
        for (guint i = 0; t->fds && i < t->fds->len; i++)
                scoped_fd_close(&g_array_index(t->fds, int, i));
        g_clear_pointer(&t->fds, g_array_unref);
        g_clear_pointer(&t->refs, g_array_unref);
        g_clear_pointer(&t->unique, g_array_unref);
        g_clear_pointer(&t->same, g_array_unref);
        g_clear_pointer(&t->seeds, g_hash_table_unref);
        g_clear_pointer(&t->seed_refs, g_ptr_array_unref);
        g_clear_pointer(&t->files, g_ptr_array_unref);
        g_object_unref(t->cancellable);
        g_free(t->id);
        g_free(t->name);
        g_free(t->version);
        g_free(t->what);
        g_free(t);
}

static gboolean show_progress(gpointer user)
{
        struct task *t = user;
        gint64 done = __atomic_load_n(&t->done, __ATOMIC_RELAXED);

        if (done != t->shown &&
            catalogue_operation_progress(t->owner->catalogue, t->id, (guint64)done, (guint64)t->total, NULL))
                t->shown = done;
        return G_SOURCE_CONTINUE;
}

static char *temp_name(const struct task *t)
{
        return g_strconcat("importing-", t->id, ".tmp", NULL); /* release_import_temp_name() */
}

/* @result is taken. */
static void finish(struct task *t, JsonObject *result, const GError *why)
{
        Share *s = t->owner;
        g_autofree char *text = result ? json_object_text(result) : NULL;
        gboolean cancelled = g_error_matches(why, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
                             g_error_matches(why, MOULT_ERROR, MOULT_ERROR_CANCELLED);

        /* When the daemon goes down, the next one begins anew. */
        if (!cancelled || t->asked || !s->ending)
                jobs_finish(s->jobs, t->id,
                            cancelled ? OPERATION_CANCELLED
                            : why     ? OPERATION_FAILED
                                      : OPERATION_SUCCEEDED,
                            text, why);
        g_ptr_array_remove_fast(s->tasks, t);
}

static void run_transfer(struct task *t, guint count, guint parallel, transfer_step_func step,
                         transfer_done_func done)
{
        t->transfer = transfer_start(t->owner->env, t->what, count, parallel, step, done, t);
}

/* Each chunk of the release once, and where else it stands. */
static void find_unique(struct task *t)
{
        g_autoptr(GHashTable) last =
                g_hash_table_new_full(g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, NULL);

        t->unique = g_array_new(FALSE, FALSE, sizeof(guint));
        t->same = g_array_sized_new(FALSE, TRUE, sizeof(guint), t->refs->len);
        g_array_set_size(t->same, t->refs->len);
        for (guint i = 0; i < t->refs->len; i++) {
                const struct chunk_ref *r = &g_array_index(t->refs, struct chunk_ref, i);
                GBytes *id = g_bytes_new(r->id, sizeof r->id);
                gpointer before;

                if (g_hash_table_lookup_extended(last, id, NULL, &before))
                        g_array_index(t->same, guint, GPOINTER_TO_UINT(before)) = i;
                else
                        g_array_append_val(t->unique, i);
                g_hash_table_replace(last, id, GUINT_TO_POINTER(i));
        }
}

static gsize ref_len(const struct task *t, guint i)
{
        return (gsize)(g_array_index(t->refs, struct chunk_ref, i).end - chunk_begin(t->refs, i));
}

static void count_moved(struct task *t, GBytes *stored)
{
        __atomic_add_fetch(&t->moved, 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&t->moved_bytes, (gint64)g_bytes_get_size(stored), __ATOMIC_RELAXED);
}

static JsonObject *counts(const struct task *t)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "release", t->name);
        json_object_set_string_member(o, "version", t->version);
        json_object_set_string_member(o, "store", t->owner->objects->name);
        json_object_set_int_member(o, "chunks", t->unique ? t->unique->len : 0);
        json_object_set_int_member(o, "moved", t->moved);
        json_object_set_int_member(o, "moved_bytes", t->moved_bytes);
        return o;
}

/* --- push */

static gpointer cut_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct task *t = data;
        const struct host_env *env = t->owner->env;

        t->fd = env->store->open(env->self, t->files->pdata[0], error);
        if (t->fd < 0 || !chunk_file_cut(t->fd, t->size, t->refs, &t->done, cancellable, error))
                return NULL;
        find_unique(t);
        return t;
}

static GBytes *index_of(const struct task *t)
{
        return chunk_index_encode(t->refs);
}

/* A release never changes: another one under its name is not overwritten. */
static gboolean check_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct task *t = user;
        ObjectStore *o = t->owner->objects;
        g_autofree char *key = release_key(t->name, t->version);
        g_autoptr(GError) why = NULL;
        g_autoptr(GBytes) there = o->ops->get(o, key, CHUNK_INDEX_MAX_BYTES, cancellable, &why);
        g_autoptr(GBytes) ours = index_of(t);

        t->is_there = there && g_bytes_equal(there, ours);
        if (t->is_there || g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                return TRUE;
        if (why)
                g_propagate_error(error, g_steal_pointer(&why));
        else
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s holds another release as %s %s; a release never changes: give this one "
                            "another version",
                            o->name, t->name, t->version);
        return FALSE;
}

static gboolean push_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct task *t = user;
        ObjectStore *o = t->owner->objects;
        guint i = g_array_index(t->unique, guint, index);
        const struct chunk_ref *r = &g_array_index(t->refs, struct chunk_ref, i);
        g_autofree char *key = chunk_key(r->id);
        g_autoptr(GBytes) chunk = NULL, stored = NULL;
        gboolean there;

        if (!o->ops->has(o, key, &there, cancellable, error))
                return FALSE;
        if (!there) {
                chunk = chunk_file_read(t->fd, chunk_begin(t->refs, i), ref_len(t, i), r->id, error);
                if (!chunk)
                        return FALSE;
                stored = chunk_pack(chunk);
                if (!o->ops->put(o, key, stored, cancellable, error))
                        return FALSE;
                count_moved(t, stored);
                fault_point("share-chunk-put");
        }
        __atomic_add_fetch(&t->done, (gint64)ref_len(t, i), __ATOMIC_RELAXED);
        return TRUE;
}

static gboolean index_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct task *t = user;
        ObjectStore *o = t->owner->objects;
        g_autofree char *key = release_key(t->name, t->version);
        g_autoptr(GBytes) ours = index_of(t);

        fault_point("share-index");
        return o->ops->put(o, key, ours, cancellable, error);
}

static void push_over(struct task *t)
{
        JsonObject *o = counts(t);

        json_object_set_boolean_member(o, "already_there", t->is_there);
        event_log(EVENT_INFO, "store-pushed", "the shared store has the release", "release", t->name,
                  "version", t->version, "store", t->owner->objects->name, NULL);
        finish(t, o, NULL);
}

static void on_indexed(const GError *error, gpointer user)
{
        struct task *t = user;

        t->transfer = NULL;
        if (error)
                finish(t, NULL, error);
        else
                push_over(t);
}

static void on_pushed(const GError *error, gpointer user)
{
        struct task *t = user;

        t->transfer = NULL;
        if (error)
                finish(t, counts(t), error);
        else
                run_transfer(t, 1, 1, index_step, on_indexed);
}

static void on_checked(const GError *error, gpointer user)
{
        struct task *t = user;

        t->transfer = NULL;
        if (error)
                finish(t, NULL, error);
        else if (t->is_there)
                push_over(t);
        else
                run_transfer(t, t->unique->len, PARALLEL, push_step, on_pushed);
}

static void on_cut(gpointer result, GError *error, gpointer user)
{
        struct task *t = user;

        t->in_thread = FALSE;
        if (error)
                finish(t, NULL, error);
        else
                run_transfer(t, 1, 1, check_step, on_checked);
}

/* --- pull */

static gboolean fetch_index_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct task *t = user;
        ObjectStore *o = t->owner->objects;
        g_autofree char *key = release_key(t->name, t->version);
        g_autoptr(GBytes) data = o->ops->get(o, key, CHUNK_INDEX_MAX_BYTES, cancellable, error);
        const char *why;
        gsize len;

        if (!data) {
                g_prefix_error(error, "the list of %s %s: ", t->name, t->version);
                return FALSE;
        }
        g_clear_pointer(&t->refs, g_array_unref);
        const guint8 *bytes = g_bytes_get_data(data, &len);
        why = chunk_index_parse(bytes, len, &t->refs);
        if (!why)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "%s: %s: %s", o->name, key, why);
        return FALSE;
}

/* What is here already need not travel. A seed that cannot be read is none. */
static void add_seed(struct task *t, const char *file, GCancellable *cancellable)
{
        const struct host_env *env = t->owner->env;
        int fd = env->store->open(env->self, file, NULL);
        GArray *refs = g_array_new(FALSE, FALSE, sizeof(struct chunk_ref));
        uint8_t header[PACK_HEADER_SIZE];
        struct pack_header h;
        gint64 progress;

        if (fd < 0) {
                g_array_unref(refs);
                return;
        }
        g_array_append_val(t->fds, fd);
        g_ptr_array_add(t->seed_refs, refs);
        if (!fd_pread_all(fd, header, sizeof header, 0, file, NULL) ||
            pack_header_parse(header, G_MAXINT64, &h) ||
            !chunk_file_cut(fd, h.pack_size, refs, &progress, cancellable, NULL))
                return;
        for (guint i = 0; i < refs->len; i++) {
                struct seed *s = g_new(struct seed, 1);

                *s = (struct seed){fd, chunk_begin(refs, i)};
                g_hash_table_replace(
                        t->seeds,
                        g_bytes_new_static(g_array_index(refs, struct chunk_ref, i).id, DIGEST_SIZE), s);
        }
}

static gpointer seed_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct task *t = data;
        const struct host_env *env = t->owner->env;
        g_autofree char *temp = temp_name(t);

        for (guint i = 0; i < t->files->len; i++)
                add_seed(t, t->files->pdata[i], cancellable);
        find_unique(t);
        /* An earlier start of the same operation may have been killed half-way. */
        if (!env->store->remove(env->self, temp, error))
                return NULL;
        t->fd = env->store->create(env->self, temp, error);
        return t->fd < 0 ? NULL : t;
}

static GBytes *get_chunk(struct task *t, guint i, GCancellable *cancellable, GError **error)
{
        ObjectStore *o = t->owner->objects;
        const struct chunk_ref *r = &g_array_index(t->refs, struct chunk_ref, i);
        g_autoptr(GBytes) id = g_bytes_new_static(r->id, sizeof r->id), stored = NULL;
        const struct seed *seed = g_hash_table_lookup(t->seeds, id);
        GBytes *chunk = seed ? chunk_file_read(seed->fd, seed->offset, ref_len(t, i), r->id, NULL) : NULL;
        g_autofree char *key = chunk_key(r->id);

        if (chunk)
                return chunk;
        stored = o->ops->get(o, key, OBJECT_MAX_BYTES, cancellable, error);
        chunk = stored ? chunk_unpack(stored, ref_len(t, i), r->id, error) : NULL;
        if (chunk)
                count_moved(t, stored);
        else
                g_prefix_error(error, "%s %s: %s: ", t->name, t->version, key);
        return chunk;
}

/* A chunk may stand at several places. */
static gboolean write_chunk(struct task *t, guint first, GBytes *chunk, GError **error)
{
        gsize len;
        const void *data = g_bytes_get_data(chunk, &len);
        guint i = first;

        do {
                if (ref_len(t, i) != len) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "the list of %s %s gives one chunk two lengths", t->name, t->version);
                        return FALSE;
                }
                if (!fd_pwrite_all(t->fd, data, len, (off_t)chunk_begin(t->refs, i), "the new pack", error))
                        return FALSE;
                __atomic_add_fetch(&t->done, (gint64)len, __ATOMIC_RELAXED);
                i = g_array_index(t->same, guint, i);
        } while (i != 0);
        return TRUE;
}

static gboolean pull_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct task *t = user;
        guint i = g_array_index(t->unique, guint, index);
        g_autoptr(GBytes) chunk = get_chunk(t, i, cancellable, error);

        if (!chunk || !write_chunk(t, i, chunk, error))
                return FALSE;
        fault_point("share-chunk-got");
        return TRUE;
}

static gpointer drop_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct task *t = data;
        g_autofree char *temp = temp_name(t);

        t->owner->env->store->remove(t->owner->env->self, temp, NULL); /* else the next start does */
        return t;
}

struct drop {
        struct task *task;
        GError *why;
};

static void on_dropped(gpointer result, GError *error, gpointer user)
{
        struct drop *d = user;

        d->task->in_thread = FALSE;
        finish(d->task, counts(d->task), d->why);
        g_error_free(d->why);
        g_free(d);
}

static void drop(struct task *t, const GError *why)
{
        struct drop *d = g_new0(struct drop, 1);

        d->task = t;
        d->why = g_error_copy(why);
        t->in_thread = TRUE;
        t->owner->env->worker->run(t->owner->env->self, drop_work, t, NULL, on_dropped, d);
}

static void on_pulled(const GError *error, gpointer user)
{
        struct task *t = user;
        Share *s = t->owner;
        g_autofree char *moved = g_strdup_printf("%" G_GINT64_FORMAT, t->moved),
                        *bytes = g_strdup_printf("%" G_GINT64_FORMAT, t->moved_bytes);

        t->transfer = NULL;
        if (error) {
                drop(t, error);
                return;
        }
        event_log(EVENT_INFO, "store-pulled", "the chunks of a release are here; now they are judged",
                  "release", t->name, "version", t->version, "fetched", moved, "bytes", bytes, NULL);
        fault_point("share-pulled");
        releases_take_in(s->releases, t->id, g_steal_fd(&t->fd), t->name, t->version);
        g_ptr_array_remove_fast(s->tasks, t); /* from here on the operation is the import's */
}

static void on_seeded(gpointer result, GError *error, gpointer user)
{
        struct task *t = user;

        t->in_thread = FALSE;
        if (error) {
                finish(t, NULL, error);
                return;
        }
        t->total = (gint64)chunk_begin(t->refs, t->refs->len);
        run_transfer(t, t->unique->len, PARALLEL, pull_step, on_pulled);
}

static void on_index(const GError *error, gpointer user)
{
        struct task *t = user;
        Share *s = t->owner;
        g_autoptr(GPtrArray) here = NULL;

        t->transfer = NULL;
        if (!error)
                here = catalogue_release_list(s->catalogue, t->name, NULL);
        if (error) {
                finish(t, NULL, error);
                return;
        }
        for (guint i = 0; here && i < here->len && i < SEEDS_MAX; i++)
                g_ptr_array_add(t->files, g_strdup(((const ReleaseRecord *)here->pdata[i])->file));
        t->in_thread = TRUE;
        s->env->worker->run(s->env->self, seed_work, t, t->cancellable, on_seeded, t);
}

/* --- both */

static struct task *task_new(Share *s, const OperationRecord *op, gboolean pull)
{
        struct task *t = g_new0(struct task, 1);
        g_autoptr(JsonNode) node = json_from_string(op->request, NULL);
        JsonObject *o = json_node_get_object(node);

        t->owner = s;
        t->pull = pull;
        t->fd = -1;
        t->id = g_strdup(op->id);
        t->name = g_strdup(json_object_get_string_member(o, "release"));
        t->version = g_strdup(json_object_get_string_member(o, "version"));
        t->what = g_strdup_printf("%s %s %s", pull ? "pulling" : "pushing", t->name, t->version);
        t->files = g_ptr_array_new_with_free_func(g_free);
        t->fds = g_array_new(FALSE, FALSE, sizeof(int));
        t->refs = g_array_new(FALSE, FALSE, sizeof(struct chunk_ref));
        t->seed_refs = g_ptr_array_new_with_free_func((GDestroyNotify)g_array_unref);
        t->seeds = g_hash_table_new_full(g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, g_free);
        t->cancellable = g_cancellable_new();
        t->timer = host_timer_add(s->env, PROGRESS_MS, show_progress, t);
        g_ptr_array_add(s->tasks, t);
        return t;
}

/* FALSE: it is over. */
static gboolean has_store(struct task *t)
{
        g_autoptr(GError) error = NULL;

        if (t->owner->objects)
                return TRUE;
        error = g_error_new(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                            "moultd has no shared store: shared-store in moultd.conf says none");
        finish(t, NULL, error);
        return FALSE;
}

static void push_start(const OperationRecord *op, gpointer user)
{
        Share *s = user;
        struct task *t = task_new(s, op, FALSE);
        g_autoptr(GError) error = NULL;
        g_autoptr(ReleaseRecord) r = NULL;

        if (!has_store(t))
                return;
        r = catalogue_release_get(s->catalogue, t->name, t->version, &error);
        if (!r) {
                finish(t, NULL, error);
                return;
        }
        g_ptr_array_add(t->files, g_strdup(r->file));
        t->size = r->size;
        t->total = 2 * (gint64)r->size; /* read, then sent */
        t->in_thread = TRUE;
        s->env->worker->run(s->env->self, cut_work, t, t->cancellable, on_cut, t);
}

static void pull_start(const OperationRecord *op, gpointer user)
{
        Share *s = user;
        struct task *t = task_new(s, op, TRUE);
        g_autoptr(ReleaseRecord) r = catalogue_release_get(s->catalogue, t->name, t->version, NULL);
        JsonObject *o;

        if (!has_store(t))
                return;
        if (!r) {
                run_transfer(t, 1, 1, fetch_index_step, on_index);
                return;
        }
        o = json_object_new();
        json_object_set_object_member(o, "release", release_record_to_json(r));
        json_object_set_boolean_member(o, "already_there", TRUE);
        finish(t, o, NULL);
}

static void stop(struct task *t)
{
        g_cancellable_cancel(t->cancellable);
        if (t->transfer)
                transfer_cancel(t->transfer);
}

static void cancel(const OperationRecord *op, gpointer user)
{
        Share *s = user;

        for (guint i = 0; i < s->tasks->len; i++) {
                struct task *t = s->tasks->pdata[i];

                if (g_str_equal(t->id, op->id)) {
                        t->asked = TRUE;
                        stop(t);
                        return;
                }
        }
        releases_cancel(s->releases, op->id);
}

static const struct job_kind push_kind = {"store-push", push_start, push_start, cancel};
static const struct job_kind pull_kind = {"store-pull", pull_start, pull_start, cancel};

Share *share_new(const struct host_env *env, Catalogue *c, Jobs *j, Releases *releases, ObjectStore *objects)
{
        Share *s = g_new0(Share, 1);

        s->env = env;
        s->catalogue = c;
        s->jobs = j;
        s->releases = releases;
        s->objects = objects;
        s->tasks = g_ptr_array_new_with_free_func(task_free);
        jobs_register(j, &push_kind, s);
        jobs_register(j, &pull_kind, s);
        return s;
}

void share_free(Share *s)
{
        if (!s)
                return;
        s->ending = TRUE;
        for (guint i = 0; i < s->tasks->len; i++)
                stop(s->tasks->pdata[i]);
        while (s->tasks->len > 0)
                g_main_context_iteration(s->env->context, TRUE);
        g_ptr_array_unref(s->tasks);
        g_free(s);
}
