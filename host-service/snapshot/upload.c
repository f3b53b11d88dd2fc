/* host-service/snapshot/upload.c - snapshots into the store, one after the other for each VM. */
#include "host-service/snapshot/upload.h"

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/catalogue/json.h"
#include "host-service/jobs/job_task.h"
#include "host-service/layers/layer_disk.h"
#include "host-service/layers/layer_map.h"
#include "host-service/layers/layer_task.h"
#include "host-service/snapshot/restore_point.h"
#include "host-service/snapshot/upload_plan.h"
#include "host-service/store/transfer.h"

#define AGAIN_FIRST_MS   15000u
#define AGAIN_LONGEST_MS (10u * 60u * 1000u)
#define GIVE_UP_US       (24 * G_TIME_SPAN_HOUR)

struct SnapshotUploads {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        ObjectStore *objects;
        SnapshotManager *manager; /* of who reads what, and of files that can go */
        GPtrArray *tasks;         /* of struct task, in the order in which they came */
        gboolean merges;          /* what is in the store then */
        gboolean closing;
};

struct task {
        SnapshotUploads *owner;
        struct job_task job;
        char *vm;
        SnapshotRecord *s;
        gint64 begun_us;
        guint64 rate;
        gboolean started, working; /* working: a thread has us */
        GPtrArray *plan;           /* of struct upload_step */
        GPtrArray *held;           /* ids of layers to which we have references */
        guint k;                   /* which of them */
        Disk *disk, *parent_disk;
        struct layer_disk_reader reader, parent;
        LayerUpload *upload;
        SnapshotManifest *manifest;
        GPtrArray *lost; /* ids of layers that the store had; NULL: it was not asked */
        Transfer *transfer;
        GSource *again;
        guint again_ms, layers;
        guint64 sent_bytes, sent_chunks;
};

static void begin_next(SnapshotUploads *u, const char *vm);
static void next_layer(struct task *t);

static void close_disks(struct task *t)
{
        layer_disk_reader_clear(&t->reader);
        layer_disk_reader_clear(&t->parent);
        g_clear_pointer(&t->disk, disk_free);
        g_clear_pointer(&t->parent_disk, disk_free);
}

static void task_free(gpointer data)
{
        struct task *t = data;

        host_timer_clear(&t->again);
        close_disks(t);
        g_clear_pointer(&t->plan, g_ptr_array_unref);
        g_clear_pointer(&t->held, g_ptr_array_unref);
        snapshot_manifest_free(t->manifest);
        g_clear_pointer(&t->lost, g_ptr_array_unref);
        snapshot_record_free(t->s);
        job_task_clear(&t->job);
        g_free(t->vm);
        g_free(t);
}

static void end(struct task *t, const GError *why)
{
        SnapshotUploads *u = t->owner;
        g_autofree char *vm = g_strdup(t->vm);
        JsonObject *o = NULL;

        if (t->s) {
                o = json_object_new();
                json_object_set_string_member(o, "vm", t->vm);
                json_object_set_string_member(o, "snapshot", t->s->name);
                json_object_set_int_member(o, "layers", t->layers);
                json_object_set_int_member(o, "sent_chunks", (gint64)t->sent_chunks);
                json_object_set_int_member(o, "sent_bytes", (gint64)t->sent_bytes);
        }
        if (!u->closing)
                event_log(why ? EVENT_WARNING : EVENT_INFO,
                          why ? "snapshot-upload-failed" : "snapshot-uploaded",
                          why ? why->message : "the store has the snapshot", "vm", t->vm, "snapshot",
                          t->s ? t->s->id : "", NULL);
        job_task_report(&t->job, o, why);
        if (t->held)
                layer_refs_drop_all(snapshot_layer_refs(u->manager), t->held);
        if (!u->closing)
                snapshot_files_sweep(u->manager);
        if (!u->closing && !why && u->merges)
                snapshot_merge_after_upload(u->manager, t->s);
        g_ptr_array_remove(u->tasks, t);
        if (!u->closing)
                begin_next(u, vm);
}

/* ---- again ---- */

static void begin(struct task *t);

static gboolean on_again(gpointer user)
{
        struct task *t = user;

        host_timer_clear(&t->again);
        begin(t);
        return G_SOURCE_REMOVE;
}

/* The store, or the way to it, is ill: it may be well later. */
static gboolean may_pass(const GError *error)
{
        return g_error_matches(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT) ||
               g_error_matches(error, MOULT_ERROR, MOULT_ERROR_BUSY);
}

static void fail(struct task *t, const GError *error)
{
        const struct host_env *env = t->owner->env;
        g_autoptr(GError) cancelled = NULL;

        job_task_hide(&t->job);
        close_disks(t);
        if (g_cancellable_set_error_if_cancelled(t->job.cancellable, &cancelled)) {
                end(t, cancelled);
                return;
        }
        if (!may_pass(error) || host_wall_us(env) - t->begun_us > GIVE_UP_US) {
                end(t, error);
                return;
        }
        t->again_ms = t->again_ms ? MIN(2 * t->again_ms, AGAIN_LONGEST_MS) : AGAIN_FIRST_MS;
        event_log(EVENT_WARNING, "snapshot-upload-waits", error->message, "vm", t->vm, "snapshot", t->s->id,
                  NULL);
        t->again = host_timer_add(env, t->again_ms, on_again, t);
}

/* ---- the manifest ---- */

static void write_end(struct task *t)
{
        g_autoptr(GError) error = NULL;

        if (catalogue_snapshot_set_uploaded(t->owner->catalogue, t->s->id, host_wall_us(t->owner->env),
                                            &error))
                end(t, NULL);
        else
                fail(t, error);
}

/* ---- what the store has lost ---- */

/* What stands on a lost layer is sent again, too: that one's file may be gone, and then its content goes with
 * the next one's. A base has all of its content. */
static gboolean look_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct task *t = user;
        ObjectStore *o = t->owner->objects;

        g_ptr_array_set_size(t->lost, 0);
        for (guint i = 0; i < t->manifest->disks->len; i++) {
                const GArray *layers = ((const struct manifest_disk *)t->manifest->disks->pdata[i])->layers;

                gboolean above_lost = FALSE;

                for (guint k = 0; k < layers->len; k++) {
                        const char *id = g_array_index(layers, struct manifest_layer, k).id;
                        g_autofree char *key = layer_key(id);
                        gboolean there;

                        if (!o->ops->has(o, key, &there, NULL, cancellable, error))
                                return FALSE;
                        if (!there || above_lost)
                                g_ptr_array_add(t->lost, g_strdup(id));
                        above_lost = above_lost || (!there && !g_str_has_prefix(id, "base-"));
                }
        }
        return TRUE;
}

static void on_lost(const GError *error, gpointer user)
{
        struct task *t = user;
        g_autoptr(GError) why = NULL;
        gboolean ok = !error;

        t->transfer = NULL;
        for (guint i = 0; ok && i < t->lost->len; i++) {
                event_log(EVENT_WARNING, "layer-lost",
                          "the store does not have a layer that it had: it is uploaded again", "vm", t->vm,
                          "layer", (const char *)t->lost->pdata[i], NULL);
                ok = catalogue_layer_set_lost(t->owner->catalogue, t->lost->pdata[i], &why);
        }
        if (ok)
                begin(t);
        else
                fail(t, error ? error : why);
}

/* Layers that no manifest names are garbage: they may have gone since, with a restore point that was removed,
 * or because this upload could not go on for long. Their files are here, perhaps. */
static void look_for_lost(struct task *t)
{
        t->lost = g_ptr_array_new_with_free_func(g_free);
        t->transfer =
                transfer_start(t->owner->env, "looking for layers in the store", 1, 1, look_step, on_lost, t);
}

static void on_manifest(const GError *error, gpointer user)
{
        struct task *t = user;

        t->transfer = NULL;
        if (g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND) && !t->lost)
                look_for_lost(t);
        else if (error)
                fail(t, error);
        else
                write_end(t);
}

static gboolean manifest_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct task *t = user;

        fault_point("snapshot-manifest");
        return snapshot_manifest_put(t->owner->objects, t->manifest, cancellable, error);
}

static SnapshotManifest *describe(struct task *t, GError **error)
{
        SnapshotRecord *s = catalogue_snapshot_get(t->owner->catalogue, t->s->id, error);
        g_autoptr(RestorePoint) p = s ? restore_point_load(t->owner->catalogue, s, error) : NULL;

        return p ? restore_point_manifest(p, error) : NULL;
}

static void put_manifest(struct task *t)
{
        g_autofree char *what = g_strdup_printf("uploading snapshot %s of %s", t->s->name, t->vm);
        g_autoptr(GError) error = NULL;

        g_clear_pointer(&t->manifest, snapshot_manifest_free);
        t->manifest = describe(t, &error);
        if (t->manifest)
                t->transfer = transfer_start(t->owner->env, what, 1, 1, manifest_step, on_manifest, t);
        else
                fail(t, error);
}

/* ---- a layer ---- */

/* Whoever writes to a golden image breaks what stands on it. Asked before it is read, and when it has been; a
 * layer that is read alone needs none. */
static gboolean is_same_base(const struct upload_step *step, GError **error)
{
        const LayerRecord *base = step->line->pdata[step->line->len - 1];

        return (!step->parent && !g_str_equal(base->id, step->layer)) ||
               layer_line_base_is_same(step->line, error);
}

static gboolean record_layer(struct task *t, const struct upload_step *step,
                             const struct layer_upload_result *result, GError **error)
{
        Catalogue *c = t->owner->catalogue;
        gboolean ok;

        if (!is_same_base(step, error) || !catalogue_begin(c, error))
                return FALSE;
        g_autoptr(LayerRecord) r = catalogue_layer_get(c, step->layer, error);
        ok = r && (r->uploaded_us || /* a base, for a sibling */
                   catalogue_layer_set_uploaded(c, step->layer, host_wall_us(t->owner->env),
                                                result->map_digest, result->sent_bytes, error));
        for (guint i = 0; ok && i < step->folds->len; i++)
                ok = catalogue_layer_fold(c, step->folds->pdata[i], step->layer, error);
        return catalogue_end(c, ok, error);
}

static void on_layer(const struct layer_upload_result *result, const GError *error, gpointer user)
{
        struct task *t = user;
        g_autoptr(GError) why = NULL;

        t->upload = NULL;
        job_task_hide(&t->job);
        fault_point("snapshot-layer-up");
        if (error || !record_layer(t, t->plan->pdata[t->k], result, &why)) {
                fail(t, error ? error : why);
                return;
        }
        t->layers++;
        t->sent_bytes += result->sent_bytes;
        t->sent_chunks += result->sent_chunks;
        begin(t); /* with a new plan: files may have been merged meanwhile */
}

static gpointer open_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct task *t = data;
        const struct upload_step *step = t->plan->pdata[t->k];
        const char *helper = t->owner->env->disk_helper;
        const struct disk_options options = {.size = step->size_bytes, .helper = helper},
                                  below = {.helper = helper};

        close_disks(t);
        if (!is_same_base(step, error))
                return NULL;
        t->disk = file_chain_open(step->files, &options, cancellable, error);
        if (!t->disk)
                return NULL;
        layer_disk_reader_init(&t->reader, t->disk, DISK_ALL);
        if (!step->parent)
                return t;
        t->parent_disk = file_chain_open(step->parent, &below, cancellable, error);
        if (t->parent_disk)
                layer_disk_reader_init(&t->parent, t->parent_disk, DISK_ALL);
        return t->parent_disk ? t : NULL;
}

static void on_opened(gpointer result, GError *error, gpointer user)
{
        struct task *t = user;
        SnapshotUploads *u = t->owner;
        const struct layer_upload_options options = {.rate_bytes_per_s = t->rate};
        const struct upload_step *step;
        g_autoptr(GError) cancelled = NULL;

        t->working = FALSE;
        if (error || g_cancellable_set_error_if_cancelled(t->job.cancellable, &cancelled)) {
                fail(t, error ? error : cancelled);
                return;
        }
        step = t->plan->pdata[t->k];
        t->upload = layer_upload_start(u->env, u->objects, step->layer, &t->reader.reader,
                                       t->parent_disk ? &t->parent.reader : NULL, &options, on_layer, t);
        job_task_show(&t->job, u->env, &layer_upload_progress(t->upload)->done,
                      &layer_upload_progress(t->upload)->total);
}

static void next_layer(struct task *t)
{
        SnapshotUploads *u = t->owner;

        if (t->k == t->plan->len) {
                put_manifest(t);
                return;
        }
        t->working = TRUE;
        u->env->worker->run(u->env->self, open_work, t, t->job.cancellable, on_opened, t);
}

/* ---- life ---- */

static gboolean check(struct task *t, GError **error)
{
        if (!t->owner->objects)
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                                    "this host has no store (shared-store=none): the snapshot stays in its "
                                    "files");
        else if (t->s->state != SNAPSHOT_TAKEN)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE, "snapshot %s is not taken",
                            t->s->id);
        return t->owner->objects && t->s->state == SNAPSHOT_TAKEN;
}

/* No merge takes away a file that this job will read, or compare with, until its end. */
static gboolean hold(struct task *t, GError **error)
{
        if (t->held)
                return TRUE;
        t->held = upload_plan_layers(t->owner->catalogue, t->s, error);
        if (t->held)
                layer_refs_take_all(snapshot_layer_refs(t->owner->manager), t->held);
        return t->held != NULL;
}

static void begin(struct task *t)
{
        g_autoptr(GError) error = NULL;

        t->k = 0;
        g_clear_pointer(&t->plan, g_ptr_array_unref);
        if (check(t, &error) && hold(t, &error) &&
            (t->plan = upload_plan_make(t->owner->catalogue, t->s, &error)))
                next_layer(t);
        else
                fail(t, error);
}

static void begin_next(SnapshotUploads *u, const char *vm)
{
        for (guint i = 0; i < u->tasks->len; i++) {
                struct task *t = u->tasks->pdata[i];

                if (!g_str_equal(t->vm, vm))
                        continue;
                if (!t->started) {
                        t->started = TRUE;
                        begin(t);
                }
                return;
        }
}

static void start(const OperationRecord *op, gpointer user)
{
        SnapshotUploads *u = user;
        struct task *t = g_new0(struct task, 1);
        g_autoptr(JsonNode) node = json_from_string(op->request, NULL);
        JsonObject *o = json_node_get_object(node);
        g_autoptr(GError) error = NULL;

        t->owner = u;
        t->vm = g_strdup(json_object_get_string_member(o, "vm"));
        t->rate = (guint64)json_object_get_int_member_with_default(o, "rate", 0);
        t->begun_us = op->created_us;
        job_task_init(&t->job, u->catalogue, u->jobs, op->id);
        g_ptr_array_add(u->tasks, t);
        t->s = catalogue_snapshot_get(u->catalogue, json_object_get_string_member(o, "snapshot"), &error);
        if (t->s)
                begin_next(u, t->vm);
        else
                end(t, error);
}

static void cancel_task(struct task *t)
{
        g_autoptr(GError) cancelled = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_CANCELLED, "cancelled");

        if (t->upload)
                layer_upload_cancel(t->upload);
        else if (t->transfer)
                transfer_cancel(t->transfer);
        else if (!t->working)
                end(t, cancelled);
}

static void cancel(const OperationRecord *op, gpointer user)
{
        SnapshotUploads *u = user;

        for (guint i = 0; i < u->tasks->len; i++) {
                struct task *t = u->tasks->pdata[i];

                if (g_str_equal(t->job.id, op->id)) {
                        job_task_cancel(&t->job);
                        cancel_task(t);
                        return;
                }
        }
}

void snapshot_upload_begin(const struct host_env *env, Jobs *jobs, const SnapshotRecord *s)
{
        JsonObject *o;
        g_autofree char *request = NULL, *id = NULL;
        g_autoptr(GError) error = NULL;

        if (!env->objects)
                return;
        o = json_object_new();
        json_object_set_string_member(o, "vm", s->vm);
        json_object_set_string_member(o, "snapshot", s->id);
        request = json_object_text(o);
        id = jobs_add(jobs, "snapshot-upload", request, &error);
        if (!id)
                event_log(EVENT_WARNING, "snapshot-upload-failed", error->message, "vm", s->vm, "snapshot",
                          s->id, NULL);
}

SnapshotUploads *snapshot_uploads_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                      ObjectStore *objects, SnapshotManager *manager, gboolean merges)
{
        static const struct job_kind kind = {"snapshot-upload", start, start, cancel};
        SnapshotUploads *u = g_new0(SnapshotUploads, 1);

        u->env = env;
        u->catalogue = c;
        u->jobs = jobs;
        u->objects = objects;
        u->manager = manager;
        u->merges = merges;
        u->tasks = g_ptr_array_new_with_free_func(task_free);
        jobs_register(jobs, &kind, u);
        return u;
}

void snapshot_uploads_free(SnapshotUploads *u)
{
        if (!u)
                return;
        u->closing = TRUE;
        while (u->tasks->len > 0) {
                struct task *t = u->tasks->pdata[u->tasks->len - 1];
                guint before = u->tasks->len;

                job_task_leave(&t->job);
                cancel_task(t);
                while (u->tasks->len == before)
                        g_main_context_iteration(u->env->context, TRUE);
        }
        g_ptr_array_unref(u->tasks);
        g_free(u);
}
