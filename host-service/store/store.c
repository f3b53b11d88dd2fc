/* host-service/store/store.c - the job kinds "store-verify" and "store-gc". */
#include "host-service/store/store.h"

#include <json-glib/json-glib.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/catalogue/json.h"
#include "host-service/jobs/job_task.h"
#include "host-service/store/check.h"
#include "host-service/store/needs.h"

struct task;
struct task_kind {
        void (*begin)(struct task *t); /* on the loop */
};

struct Store {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        Releases *releases;
        const struct guest_view *guests;
        char *trust_dir;
        GQueue tasks; /* of struct task; the head is at work */
        GSource *next;
        gboolean working;
};

struct task {
        Store *owner;
        const struct task_kind *kind;
        struct job_task job;
        struct store_check *check; /* verify */
        gboolean dry_run;          /* gc, and the rest: */
        guint keep, ways_back;
        GSource *step;
        GStrv files; /* of the store; then those that are to go */
        JsonArray *removed, *kept, *left_over;
        guint64 freed;
};

static void task_free(struct task *t)
{
        job_task_clear(&t->job);
        host_timer_clear(&t->step);
        store_check_free(t->check);
        g_strfreev(t->files);
        g_clear_pointer(&t->removed, json_array_unref);
        g_clear_pointer(&t->kept, json_array_unref);
        g_clear_pointer(&t->left_over, json_array_unref);
        g_free(t);
}

/* --- one at a time */

static gboolean on_next(gpointer user)
{
        Store *s = user;
        struct task *t = g_queue_peek_head(&s->tasks);

        host_timer_clear(&s->next);
        if (t)
                t->kind->begin(t);
        return G_SOURCE_REMOVE;
}

static GSource *idle_add(Store *s, GSourceFunc func, gpointer user)
{
        GSource *source = g_idle_source_new();

        g_source_set_callback(source, func, user, NULL);
        g_source_attach(source, s->env->context);
        return source;
}

static void task_add(Store *s, const OperationRecord *op, const struct task_kind *kind)
{
        struct task *t = g_new0(struct task, 1);
        g_autoptr(JsonNode) node = json_from_string(op->request, NULL);
        JsonObject *o = json_node_get_object(node);

        t->owner = s;
        t->kind = kind;
        job_task_init(&t->job, s->catalogue, s->jobs, op->id);
        t->dry_run = json_object_get_boolean_member_with_default(o, "dry_run", FALSE);
        t->keep = (guint)json_object_get_int_member_with_default(o, "keep", STORE_KEEP_DEFAULT);
        t->ways_back =
                (guint)json_object_get_int_member_with_default(o, "ways_back", STORE_WAYS_BACK_DEFAULT);
        g_queue_push_tail(&s->tasks, t);
        if (g_queue_get_length(&s->tasks) == 1 && !s->next)
                s->next = idle_add(s, on_next, s);
}

/* @result is taken. With @why the operation has failed, or was cancelled. */
static void task_end(struct task *t, JsonObject *result, const GError *why)
{
        Store *s = t->owner;

        job_task_report(&t->job, result, why);
        g_queue_remove(&s->tasks, t);
        task_free(t);
        if (!g_queue_is_empty(&s->tasks) && !s->next)
                s->next = idle_add(s, on_next, s);
}

static void task_run(struct task *t, host_work_func work, host_work_done done)
{
        Store *s = t->owner;

        s->working = TRUE;
        s->env->worker->run(s->env->self, work, t, t->job.cancellable, done, t);
}

/* --- verify */

static gpointer verify_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct task *t = data;

        return store_check_run(t->check, cancellable, error) ? t : NULL;
}

/* What was removed or imported while we looked is no finding. */
static void drop_outdated(GPtrArray *findings, const StoreNeeds *now)
{
        const GPtrArray *releases = store_needs_releases(now);

        for (guint i = findings->len; i > 0; i--) {
                const Finding *f = findings->pdata[i - 1];
                gboolean holds = TRUE;

                if (f->kind == FINDING_LEFT_OVER)
                        holds = !store_needs_file(now, f->file);
                else if (f->file)
                        holds = store_file_is_known(releases, f->file);
                if (!holds)
                        g_ptr_array_remove_index(findings, i - 1);
        }
}

static JsonObject *verify_result(const struct task *t, const StoreNeeds *now)
{
        const struct store_check *c = t->check;
        JsonArray *findings = json_array_new();
        JsonObject *o = json_object_new();

        for (guint i = 0; i < c->findings->len; i++)
                json_array_add_object_element(findings,
                                              finding_to_json(c->findings->pdata[i], store_needs_users(now)));
        json_object_set_int_member(o, "releases", c->releases->len);
        json_object_set_int_member(o, "files", (gint64)c->files);
        json_object_set_int_member(o, "bytes", (gint64)c->bytes);
        json_object_set_array_member(o, "findings", findings);
        return o;
}

static void verify_done(gpointer result, GError *error, gpointer user)
{
        struct task *t = user;
        Store *s = t->owner;
        g_autoptr(GError) why = NULL;
        g_autoptr(StoreNeeds) now = NULL;

        s->working = FALSE;
        job_task_hide(&t->job);
        if (!error)
                now = store_needs_look(s->catalogue, s->guests, 0, STORE_WAYS_BACK_DEFAULT, &why);
        if (!now) {
                task_end(t, NULL, error ? error : why);
                return;
        }
        drop_outdated(t->check->findings, now);
        findings_tell(t->check->findings);
        why = findings_error(t->check->findings);
        task_end(t, verify_result(t, now), why);
}

static void verify_begin(struct task *t)
{
        Store *s = t->owner;
        g_autoptr(GError) error = NULL;
        GPtrArray *releases = catalogue_release_list(s->catalogue, NULL, &error);

        if (!releases) {
                task_end(t, NULL, error);
                return;
        }
        t->check = store_check_new(s->env, s->trust_dir, releases);
        job_task_show(&t->job, s->env, &t->check->done, &t->check->total);
        task_run(t, verify_work, verify_done);
}

static const struct task_kind verify_task = {verify_begin};

/* --- garbage collection */

static JsonObject *release_json(const ReleaseRecord *r)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "release", r->name);
        json_object_set_string_member(o, "version", r->version);
        json_object_set_string_member(o, "file", r->file);
        json_object_set_int_member(o, "bytes", (gint64)r->size);
        return o;
}

static JsonObject *gc_result(struct task *t)
{
        JsonObject *o = json_object_new();

        json_object_set_boolean_member(o, "dry_run", t->dry_run);
        json_object_set_array_member(o, "removed", g_steal_pointer(&t->removed));
        json_object_set_array_member(o, "kept", g_steal_pointer(&t->kept));
        json_object_set_array_member(o, "left_over", g_steal_pointer(&t->left_over));
        json_object_set_int_member(o, "bytes", (gint64)t->freed);
        return o;
}

static gpointer list_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct task *t = data;

        t->files = t->owner->env->store->list(t->owner->env->self, error);
        return t->files ? t : NULL;
}

static gpointer remove_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct task *t = data;
        const struct host_env *env = t->owner->env;

        for (GStrv f = t->files; *f; f++) {
                if (!env->store->remove(env->self, *f, error))
                        return NULL;
                fault_point("gc-file-removed");
        }
        return t;
}

static void remove_done(gpointer result, GError *error, gpointer user)
{
        struct task *t = user;

        t->owner->working = FALSE;
        fault_point("gc-done");
        task_end(t, gc_result(t), error);
}

/* A file without a row, of no operation that goes on, never gets a row: its name is used once. */
static void choose_files(struct task *t, const StoreNeeds *now)
{
        g_autoptr(GStrvBuilder) gone = g_strv_builder_new();

        t->left_over = json_array_new();
        for (GStrv f = t->files; *f; f++)
                if (!store_needs_file(now, *f)) {
                        g_strv_builder_add(gone, *f);
                        json_array_add_string_element(t->left_over, *f);
                }
        g_strfreev(t->files);
        t->files = g_strv_builder_end(gone);
}

static void list_done(gpointer result, GError *error, gpointer user)
{
        struct task *t = user;
        Store *s = t->owner;
        g_autoptr(GError) why = NULL;
        g_autoptr(StoreNeeds) now = NULL;

        s->working = FALSE;
        if (!error && !g_cancellable_set_error_if_cancelled(t->job.cancellable, &why))
                now = store_needs_look(s->catalogue, s->guests, t->keep, t->ways_back, &why);
        if (!now) {
                task_end(t, gc_result(t), error ? error : why);
                return;
        }
        choose_files(t, now);
        if (t->dry_run)
                task_end(t, gc_result(t), NULL);
        else
                task_run(t, remove_work, remove_done);
}

/* Looks, and removes at most one: each removal is judged by what is true in its own turn of the loop.
 * *ret_more: there may be another. */
static gboolean collect_one(struct task *t, gboolean *ret_more, GError **error)
{
        Store *s = t->owner;
        g_autoptr(StoreNeeds) now = store_needs_look(s->catalogue, s->guests, t->keep, t->ways_back, error);
        const GPtrArray *releases;

        *ret_more = FALSE;
        if (!now)
                return FALSE;
        releases = store_needs_releases(now);
        g_clear_pointer(&t->kept, json_array_unref);
        t->kept = json_array_new();
        for (guint i = 0; i < releases->len; i++) {
                const ReleaseRecord *r = releases->pdata[i];
                JsonArray *why = store_needs_why(now, i);
                JsonObject *o = release_json(r);

                if (why) {
                        json_object_set_array_member(o, "why", why);
                        json_array_add_object_element(t->kept, o);
                        continue;
                }
                if (!t->dry_run && !releases_remove(s->releases, r->name, r->version, error)) {
                        json_object_unref(o);
                        return FALSE;
                }
                json_array_add_object_element(t->removed, o);
                t->freed += r->size;
                if (!t->dry_run) {
                        event_log(EVENT_INFO, "store-release-collected", "nobody needs this release any more",
                                  "release", r->name, "version", r->version, NULL);
                        *ret_more = TRUE;
                        return TRUE;
                }
        }
        return TRUE;
}

static gboolean on_step(gpointer user)
{
        struct task *t = user;
        g_autoptr(GError) error = NULL;
        gboolean more = FALSE;

        if (g_cancellable_set_error_if_cancelled(t->job.cancellable, &error) ||
            !collect_one(t, &more, &error)) {
                task_end(t, gc_result(t), error);
                return G_SOURCE_REMOVE;
        }
        fault_point(more ? "gc-release-removed" : "gc-chosen");
        if (more)
                return G_SOURCE_CONTINUE;
        host_timer_clear(&t->step);
        task_run(t, list_work, list_done);
        return G_SOURCE_REMOVE;
}

static void gc_begin(struct task *t)
{
        t->removed = json_array_new();
        t->kept = json_array_new();
        t->left_over = json_array_new();
        t->step = idle_add(t->owner, on_step, t);
}

static const struct task_kind gc_task = {gc_begin};

/* --- both */

static void verify_start(const OperationRecord *op, gpointer user)
{
        task_add(user, op, &verify_task);
}

static void gc_start(const OperationRecord *op, gpointer user)
{
        task_add(user, op, &gc_task);
}

static void cancel(const OperationRecord *op, gpointer user)
{
        Store *s = user;

        for (GList *l = s->tasks.head; l; l = l->next) {
                struct task *t = l->data;

                if (g_str_equal(t->job.id, op->id)) {
                        job_task_cancel(&t->job);
                        return;
                }
        }
}

static const struct job_kind verify_kind = {"store-verify", verify_start, verify_start, cancel};
static const struct job_kind gc_kind = {"store-gc", gc_start, gc_start, cancel};

Store *store_new(const struct host_env *env, Catalogue *c, Jobs *j, Releases *releases,
                 const struct guest_view *guests, const char *trust_dir)
{
        Store *s = g_new0(Store, 1);

        s->env = env;
        s->catalogue = c;
        s->jobs = j;
        s->releases = releases;
        s->guests = guests;
        s->trust_dir = g_strdup(trust_dir);
        g_queue_init(&s->tasks);
        jobs_register(j, &verify_kind, s);
        jobs_register(j, &gc_kind, s);
        return s;
}

void store_free(Store *s)
{
        struct task *t;

        if (!s)
                return;
        t = g_queue_peek_head(&s->tasks);
        if (t)
                job_task_leave(&t->job);
        while (s->working)
                g_main_context_iteration(s->env->context, TRUE);
        host_timer_clear(&s->next);
        g_queue_clear_full(&s->tasks, (GDestroyNotify)task_free);
        g_free(s->trust_dir);
        g_free(s);
}
