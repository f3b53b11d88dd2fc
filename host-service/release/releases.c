/* host-service/release/releases.c - the job kinds of releases, and letting releases go. */
#include "host-service/release/releases.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/catalogue/json.h"
#include "host-service/release/import.h"
#include "host-service/release/pack_store.h"
#include "host-service/release/pack_verify.h"

#define PROGRESS_MS 500
#define STEP_ROWS   5000 /* paths that are written or swept in one turn of the loop */

struct task;
struct Releases {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        char *trust_dir;
        GHashTable *tasks; /* operation id -> struct task, of the jobs that run */
        GSource *sweep;    /* paths of removed releases and of imports that came to nothing */
        guint working;     /* worker calls under way, of any kind; imports that are written */
        gboolean ending;
};

/* A job in a worker thread. */
struct task {
        Releases *owner;
        char *id;
        GCancellable *cancellable;
        GSource *timer;
        gint64 shown;
        gboolean asked;                /* cancelled by a client, not by our ending */
        struct release_import *import; /* import */
        GSource *writing;              /* import: the paths, a step at a time */
        gint64 row;                    /* import: what they are written to; 0: none yet */
        gsize written, n_paths;
        ReleaseRecord *release; /* verify */
        gint64 done, total;     /* verify; atomic */
        struct pack_verify_report report;
};

static void task_free(struct task *t)
{
        host_timer_clear(&t->timer);
        host_timer_clear(&t->writing);
        g_object_unref(t->cancellable);
        release_import_free(t->import);
        release_record_free(t->release);
        g_free(t->id);
        g_free(t);
}

static gboolean show_progress(gpointer user)
{
        struct task *t = user;
        const gint64 *pd = t->import ? &t->import->done : &t->done,
                     *pt = t->import ? &t->import->total : &t->total;
        gint64 done = __atomic_load_n(pd, __ATOMIC_RELAXED), total = __atomic_load_n(pt, __ATOMIC_RELAXED);

        /* Progress that could not be written is shown the next time. */
        if (done != t->shown &&
            catalogue_operation_progress(t->owner->catalogue, t->id, (guint64)done, (guint64)total, NULL))
                t->shown = done;
        return G_SOURCE_CONTINUE;
}

static struct task *task_new(Releases *r, const char *id)
{
        struct task *t = g_new0(struct task, 1);

        t->owner = r;
        t->id = g_strdup(id);
        t->cancellable = g_cancellable_new();
        return t;
}

static void task_run(struct task *t, host_work_func work, host_work_done done)
{
        Releases *r = t->owner;

        g_hash_table_insert(r->tasks, t->id, t);
        t->timer = host_timer_add(r->env, PROGRESS_MS, show_progress, t);
        r->working++;
        r->env->worker->run(r->env->self, work, t, t->cancellable, done, t);
}

/* TRUE if the daemon is going down: the operation stays as it is, for the next one. */
static gboolean task_left(struct task *t)
{
        return t->owner->ending && !t->asked;
}

static void task_fail(struct task *t, const GError *error)
{
        gboolean cancelled = g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
                             g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CANCELLED);

        if (!task_left(t))
                jobs_finish(t->owner->jobs, t->id, cancelled ? OPERATION_CANCELLED : OPERATION_FAILED, NULL,
                            error);
}

static void task_end(struct task *t)
{
        Releases *r = t->owner;

        r->working--;
        g_hash_table_remove(r->tasks, t->id);
        task_free(t);
}

/* --- sweeping */

static gboolean on_sweep(gpointer user)
{
        Releases *r = user;
        g_autoptr(GError) error = NULL;
        gboolean more = FALSE;

        if (!catalogue_release_sweep(r->catalogue, STEP_ROWS, &more, &error)) {
                event_log(EVENT_WARNING, "catalogue-not-pruned", error->message, NULL);
                more = FALSE; /* the next removal or start goes on */
        }
        fault_point("release-swept");
        if (more)
                return G_SOURCE_CONTINUE;
        host_timer_clear(&r->sweep);
        return G_SOURCE_REMOVE;
}

static GSource *idle_add(Releases *r, GSourceFunc func, gpointer user)
{
        GSource *source = g_idle_source_new();

        g_source_set_callback(source, func, user, NULL);
        g_source_attach(source, r->env->context);
        return source;
}

static void sweep(Releases *r)
{
        if (!r->sweep)
                r->sweep = idle_add(r, on_sweep, r);
}

/* --- import */

static gpointer import_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct task *t = data;

        return release_import_run(t->import, cancellable, error) ? t : NULL;
}

static char *import_result(const ReleaseRecord *r, gboolean already)
{
        JsonObject *o = json_object_new();

        json_object_set_object_member(o, "release", release_record_to_json(r));
        json_object_set_boolean_member(o, "already_there", already);
        return json_object_text(o);
}

/* The very same release may be there: then the import was a success already. */
static gboolean finish_as_known(struct task *t)
{
        const ReleaseRecord *n = t->import->release;
        g_autoptr(ReleaseRecord) old = catalogue_release_by_digest(t->owner->catalogue, n->digest, NULL);
        g_autofree char *result = NULL;

        if (!old || !g_str_equal(old->name, n->name) || !g_str_equal(old->version, n->version))
                return FALSE;
        result = import_result(old, TRUE);
        jobs_finish(t->owner->jobs, t->id, OPERATION_SUCCEEDED, result, NULL);
        return TRUE;
}

/* The release and the operation's end are one transaction. */
static gboolean record_import(struct task *t, GError **error)
{
        Releases *r = t->owner;
        const ReleaseRecord *n = t->import->release;
        g_autoptr(ReleaseRecord) added = NULL;
        g_autofree char *result = NULL;

        if (!catalogue_begin(r->catalogue, error))
                return FALSE;
        if (catalogue_release_publish(r->catalogue, t->row, n, error))
                added = catalogue_release_get(r->catalogue, n->name, n->version, error);
        if (added) {
                result = import_result(added, FALSE);
                if (catalogue_operation_set_state(r->catalogue, t->id, OPERATION_SUCCEEDED, result, NULL,
                                                  error))
                        return catalogue_commit(r->catalogue, error);
        }
        catalogue_rollback(r->catalogue);
        return FALSE;
}

struct removal {
        Releases *owner;
        char *file;
};

static void remove_done(gpointer result, GError *error, gpointer user)
{
        struct removal *m = user;

        if (error)
                event_log(EVENT_WARNING, "pack-not-removed",
                          "a pack that no release has any more could not be removed; the next start tries "
                          "again",
                          "file", m->file, "error", error->message, NULL);
        m->owner->working--;
        g_free(m->file);
        g_free(m);
}

static gpointer remove_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct removal *m = data;

        m->owner->env->store->remove(m->owner->env->self, m->file, error);
        return NULL;
}

static void remove_file(Releases *r, const char *file)
{
        struct removal *m = g_new0(struct removal, 1);

        m->owner = r;
        m->file = g_strdup(file);
        r->working++;
        r->env->worker->run(r->env->self, remove_work, m, NULL, remove_done, m);
}

/* The pack is sealed, but there will be no release. */
static void import_undo(struct task *t, const GError *why)
{
        Releases *r = t->owner;

        if (t->row) {
                catalogue_release_abandon(r->catalogue, t->row, NULL); /* else the next start does */
                sweep(r);
        }
        remove_file(r, t->import->release->file);
        if (g_error_matches(why, G_IO_ERROR, G_IO_ERROR_CANCELLED) || !finish_as_known(t))
                task_fail(t, why);
}

/* FALSE: the import is over. */
static gboolean write_step(struct task *t, GError **error)
{
        Catalogue *c = t->owner->catalogue;
        gsize n = MIN(t->n_paths - t->written, STEP_ROWS);

        if (g_cancellable_set_error_if_cancelled(t->cancellable, error))
                return FALSE;
        if (!t->row) {
                t->row = catalogue_release_prepare(c, error);
                return t->row != 0;
        }
        if (t->written == t->n_paths)
                return record_import(t, error) && FALSE;
        if (!catalogue_release_add_paths(c, t->row, (const char *const *)t->import->paths + t->written, n,
                                         error))
                return FALSE;
        t->written += n;
        fault_point("import-writing");
        return TRUE;
}

static gboolean on_write(gpointer user)
{
        struct task *t = user;
        g_autoptr(GError) why = NULL;

        if (write_step(t, &why))
                return G_SOURCE_CONTINUE;
        /* When the daemon goes down, the next one begins anew: it removes the file and the row first. */
        if (why && !task_left(t))
                import_undo(t, why);
        task_end(t);
        return G_SOURCE_REMOVE;
}

static void import_done(gpointer result, GError *error, gpointer user)
{
        struct task *t = user;

        if (error) {
                task_fail(t, error);
                task_end(t);
                return;
        }
        fault_point("import-sealed");
        t->n_paths = g_strv_length(t->import->paths);
        t->writing = idle_add(t->owner, on_write, t);
}

static void import_start(const OperationRecord *op, gpointer user)
{
        Releases *r = user;
        g_autoptr(JsonNode) node = json_from_string(op->request, NULL);
        struct task *t = task_new(r, op->id);

        t->import = g_new0(struct release_import, 1);
        t->import->env = r->env;
        t->import->operation = g_strdup(op->id);
        t->import->trust_dir = g_strdup(r->trust_dir);
        t->import->path = g_strdup(json_object_get_string_member(json_node_get_object(node), "path"));
        task_run(t, import_work, import_done);
}

void releases_take_in(Releases *r, const char *id, int fd, const char *name, const char *version)
{
        struct task *t = task_new(r, id);

        t->import = g_new0(struct release_import, 1);
        t->import->env = r->env;
        t->import->operation = g_strdup(id);
        t->import->trust_dir = g_strdup(r->trust_dir);
        t->import->path = g_strdup_printf("the pack of %s %s", name, version);
        t->import->in_place = TRUE;
        t->import->fd = fd;
        t->import->expect_name = g_strdup(name);
        t->import->expect_version = g_strdup(version);
        task_run(t, import_work, import_done);
}

/* --- verify */

static void on_verified(uint64_t done, uint64_t total, gpointer user)
{
        struct task *t = user;

        __atomic_store_n(&t->total, (gint64)total, __ATOMIC_RELAXED);
        __atomic_store_n(&t->done, (gint64)done, __ATOMIC_RELAXED);
}

static PackReader *open_release(const struct host_env *env, const ReleaseRecord *release,
                                const TrustStore *trust, GCancellable *cancellable, GError **error)
{
        int fd = env->store->open(env->self, release->file, error);
        g_autoptr(PackSource) source = fd >= 0 ? pack_source_file_new(fd, error) : NULL;

        return source ? pack_reader_open(source, trust, release->digest, cancellable, error) : NULL;
}

static gpointer verify_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct task *t = data;
        g_autoptr(TrustStore) trust = trust_store_load(t->owner->trust_dir, error);
        g_autoptr(PackReader) reader =
                trust ? open_release(t->owner->env, t->release, trust, cancellable, error) : NULL;

        if (!reader || !pack_verify(reader, 0, on_verified, t, cancellable, &t->report, error)) {
                g_prefix_error(error, "release %s %s: ", t->release->name, t->release->version);
                return NULL;
        }
        return t;
}

static void verify_done(gpointer result, GError *error, gpointer user)
{
        struct task *t = user;
        g_autofree char *text = NULL;
        JsonObject *o;

        if (error) {
                task_fail(t, error);
        } else {
                o = json_object_new();
                json_object_set_string_member(o, "release", t->release->name);
                json_object_set_string_member(o, "version", t->release->version);
                json_object_set_int_member(o, "files", (gint64)t->report.files);
                json_object_set_int_member(o, "bytes", (gint64)t->report.bytes);
                text = json_object_text(o);
                jobs_finish(t->owner->jobs, t->id, OPERATION_SUCCEEDED, text, NULL);
        }
        task_end(t);
}

static void verify_start(const OperationRecord *op, gpointer user)
{
        Releases *r = user;
        g_autoptr(JsonNode) node = json_from_string(op->request, NULL);
        JsonObject *o = json_node_get_object(node);
        g_autoptr(GError) error = NULL;
        g_autoptr(ReleaseRecord) release =
                catalogue_release_get(r->catalogue, json_object_get_string_member(o, "release"),
                                      json_object_get_string_member(o, "version"), &error);
        struct task *t;

        if (!release) {
                jobs_finish(r->jobs, op->id, OPERATION_FAILED, NULL, error);
                return;
        }
        t = task_new(r, op->id);
        t->release = g_steal_pointer(&release);
        task_run(t, verify_work, verify_done);
}

/* --- both */

void releases_cancel(Releases *r, const char *id)
{
        struct task *t = g_hash_table_lookup(r->tasks, id);

        if (t) {
                t->asked = TRUE;
                g_cancellable_cancel(t->cancellable);
        }
}

static void cancel(const OperationRecord *op, gpointer user)
{
        releases_cancel(user, op->id);
}

/* Both begin anew after a restart: until the row is written, nothing of an import counts. */
static const struct job_kind import_kind = {"release-import", import_start, import_start, cancel};
static const struct job_kind verify_kind = {"release-verify", verify_start, verify_start, cancel};

Releases *releases_new(const struct host_env *env, Catalogue *c, Jobs *j, const char *trust_dir,
                       GError **error)
{
        Releases *r;

        /* No import is under way: what is unseen is left over. */
        if (!catalogue_release_abandon(c, 0, error) || !pack_store_clean(env, c, error))
                return NULL;
        r = g_new0(Releases, 1);
        r->env = env;
        r->catalogue = c;
        r->jobs = j;
        r->trust_dir = g_strdup(trust_dir);
        r->tasks = g_hash_table_new(g_str_hash, g_str_equal);
        jobs_register(j, &import_kind, r);
        jobs_register(j, &verify_kind, r);
        sweep(r);
        return r;
}

void releases_free(Releases *r)
{
        GHashTableIter iter;
        gpointer task;

        if (!r)
                return;
        r->ending = TRUE;
        g_hash_table_iter_init(&iter, r->tasks);
        while (g_hash_table_iter_next(&iter, NULL, &task))
                g_cancellable_cancel(((struct task *)task)->cancellable);
        while (r->working > 0)
                g_main_context_iteration(r->env->context, TRUE);
        host_timer_clear(&r->sweep); /* the next start goes on */
        g_hash_table_unref(r->tasks);
        g_free(r->trust_dir);
        g_free(r);
}

gboolean releases_remove(Releases *r, const char *name, const char *version, GError **error)
{
        g_autoptr(ReleaseRecord) release = catalogue_release_get(r->catalogue, name, version, error);

        if (!release || !catalogue_release_remove(r->catalogue, name, version, error))
                return FALSE;
        remove_file(r, release->file);
        sweep(r);
        return TRUE;
}

/* --- reading a list */

struct reading {
        Releases *owner;
        ReleaseRecord release; /* only file and digest */
        PackReader *reader;
        releases_manifest_func done;
        gpointer user;
};

static gpointer read_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct reading *g = data;

        /* The signature was judged at the import; the digest says that it is the same list. */
        g->reader = open_release(g->owner->env, &g->release, NULL, cancellable, error);
        return g;
}

static void read_done(gpointer result, GError *error, gpointer user)
{
        struct reading *g = user;

        g->done(g->reader ? pack_reader_manifest(g->reader) : NULL, error, g->user);
        g_clear_pointer(&g->reader, pack_reader_unref);
        g->owner->working--;
        g_free(g->release.file);
        g_free(g);
}

void releases_read_manifest(Releases *r, const ReleaseRecord *release, releases_manifest_func done,
                            gpointer user)
{
        struct reading *g = g_new0(struct reading, 1);

        g->owner = r;
        g->release.file = g_strdup(release->file);
        memcpy(g->release.digest, release->digest, sizeof g->release.digest);
        g->done = done;
        g->user = user;
        r->working++;
        r->env->worker->run(r->env->self, read_work, g, NULL, read_done, g);
}
