/* host-service/snapshot/verify.c - the job "snapshot-verify": manifests, maps, chunks, files, and with --deep
 * what is rebuilt of them, one after the other. */
#include "host-service/snapshot/verify.h"

#include <unistd.h>

#include "host-service/snapshot/verify_private.h"

#define PARALLEL 4 /* objects of the store at once */

static void task_free(gpointer data)
{
        struct verify *v = data;

        verify_plan_clear(v);
        job_task_clear(&v->job);
        g_mutex_clear(&v->lock);
        g_free(v->vm);
        g_free(v->snapshot);
        g_free(v->scratch);
        g_free(v->part);
        g_free(v);
}

void verify_count(struct verify *v, gint64 n)
{
        __atomic_add_fetch(&v->done, n, __ATOMIC_RELAXED);
}

static void end(struct verify *v, JsonObject *result, const GError *why, gboolean held)
{
        job_task_hide(&v->job);
        job_task_report(&v->job, result, why);
        if (held)
                layer_refs_drop_all(v->owner->refs, v->held);
        g_ptr_array_remove(v->owner->tasks, v);
}

static void transfer(struct verify *v, guint count, guint parallel, transfer_step_func step,
                     transfer_done_func done)
{
        v->transfer =
                transfer_start(v->owner->env, "verifying restore points", count, parallel, step, done, v);
        if (g_cancellable_is_cancelled(v->job.cancellable))
                transfer_cancel(v->transfer);
}

static void finish(struct verify *v, const GError *error)
{
        JsonObject *result;
        g_autoptr(GError) why = NULL;

        if (error) {
                end(v, NULL, error, TRUE);
                return;
        }
        result = verify_result(v);
        why = verify_error(v);
        end(v, result, why, TRUE);
}

static void on_files(const GError *error, gpointer user)
{
        struct verify *v = user;

        v->transfer = NULL;
        verify_judge(v);
        if (!error && v->deep)
                verify_deep(v, finish);
        else
                finish(v, error);
}

static void on_chunks(const GError *error, gpointer user)
{
        struct verify *v = user;

        v->transfer = NULL;
        if (error) {
                finish(v, error);
                return;
        }
        verify_judge_chunks(v);
        transfer(v, v->files->len, 1, verify_file_step, on_files);
}

static void on_maps(const GError *error, gpointer user)
{
        struct verify *v = user;

        v->transfer = NULL;
        if (error) {
                finish(v, error);
                return;
        }
        verify_collect_chunks(v);
        transfer(v, v->chunks->len, PARALLEL, verify_chunk_step, on_chunks);
}

static void on_manifests(const GError *error, gpointer user)
{
        struct verify *v = user;

        v->transfer = NULL;
        if (error)
                finish(v, error);
        else
                transfer(v, v->layers->len, PARALLEL, verify_map_step, on_maps);
}

/* ---- life ---- */

static void read_request(struct verify *v, const OperationRecord *op)
{
        g_autoptr(JsonNode) node = json_from_string(op->request, NULL);
        JsonObject *o = json_node_get_object(node);
        const char *scratch = json_object_get_string_member_with_default(o, "scratch", NULL);
        g_autofree char *state = g_path_get_dirname(v->owner->env->catalogue_path);

        v->vm = g_strdup(json_object_get_string_member_with_default(o, "vm", NULL));
        v->snapshot = g_strdup(json_object_get_string_member_with_default(o, "snapshot", NULL));
        v->deep = json_object_get_boolean_member_with_default(o, "deep", FALSE);
        v->scratch = scratch ? g_strdup(scratch) : g_build_filename(state, "scratch", NULL);
}

static void start(const OperationRecord *op, gpointer user)
{
        SnapshotVerifies *owner = user;
        struct verify *v = g_new0(struct verify, 1);
        g_autoptr(GError) error = NULL;

        v->owner = owner;
        g_mutex_init(&v->lock);
        job_task_init(&v->job, owner->catalogue, owner->jobs, op->id);
        g_ptr_array_add(owner->tasks, v);
        read_request(v, op);
        if (!verify_plan(v, &error)) {
                end(v, NULL, error, FALSE);
                return;
        }
        layer_refs_take_all(owner->refs, v->held);
        job_task_show(&v->job, owner->env, &v->done, &v->total);
        transfer(v, v->points->len, PARALLEL, verify_manifest_step, on_manifests);
}

static void stop(struct verify *v)
{
        if (v->transfer)
                transfer_cancel(v->transfer);
        if (v->restore)
                restore_cancel(v->restore);
}

static void cancel(const OperationRecord *op, gpointer user)
{
        SnapshotVerifies *owner = user;

        for (guint i = 0; i < owner->tasks->len; i++) {
                struct verify *v = owner->tasks->pdata[i];

                if (!g_str_equal(v->job.id, op->id))
                        continue;
                job_task_cancel(&v->job);
                stop(v);
                return;
        }
}

SnapshotVerifies *snapshot_verifies_new(const struct host_env *env, Catalogue *c, Jobs *jobs, LayerRefs *refs)
{
        static const struct job_kind kind = {"snapshot-verify", start, start, cancel};
        SnapshotVerifies *v = g_new0(SnapshotVerifies, 1);

        v->env = env;
        v->catalogue = c;
        v->jobs = jobs;
        v->refs = refs;
        v->tasks = g_ptr_array_new_with_free_func(task_free);
        jobs_register(jobs, &kind, v);
        return v;
}

void snapshot_verifies_free(SnapshotVerifies *v)
{
        if (!v)
                return;
        for (guint i = 0; i < v->tasks->len; i++) {
                struct verify *t = v->tasks->pdata[i];

                job_task_leave(&t->job);
                stop(t);
        }
        while (v->tasks->len > 0)
                g_main_context_iteration(v->env->context, TRUE);
        g_ptr_array_unref(v->tasks);
        g_free(v);
}
