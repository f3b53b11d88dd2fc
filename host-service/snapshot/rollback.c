/* host-service/snapshot/rollback.c - the job of a rollback, and how it ends. */
#include "host-service/snapshot/rollback.h"

#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "host-service/catalogue/json.h"
#include "host-service/catalogue/vms.h"
#include "host-service/hypervisor/libvirt_uri.h"
#include "host-service/snapshot/rollback_private.h"
#include "host-service/snapshot/upload.h"

#define AGAIN_MS       5000u
#define STORE_AGAIN_MS 1000u

static void way_clear(struct way *w)
{
        g_clear_pointer(&w->line, g_ptr_array_unref);
        g_clear_pointer(&w->files, layer_files_free);
        g_free(w->below);
        g_free(w->part);
        g_free(w->old);
}

static void task_free(gpointer data)
{
        struct rollback *t = data;

        vm_turns_leave(t->owner->turns, t);
        for (guint i = 0; t->ways && i < t->to->disks->len; i++)
                way_clear(&t->ways[i]);
        g_free(t->ways);
        g_clear_pointer(&t->held, g_ptr_array_unref);
        host_timer_clear(&t->again);
        snapshot_record_free(t->to);
        snapshot_record_free(t->before);
        g_clear_error(&t->error);
        g_clear_error(&t->place_error);
        g_clear_error(&t->back);
        g_clear_pointer(&t->found, g_ptr_array_unref);
        g_clear_pointer(&t->old, g_ptr_array_unref);
        g_queue_clear_full(&t->commands, rollback_command_free);
        g_free(t->status);
        g_free(t->sizes);
        g_free(t->target);
        job_task_clear(&t->job);
        g_free(t->vm);
        g_free(t);
}

/* ---- the end ---- */

void rollback_end(struct rollback *t, const GError *why)
{
        SnapshotRollbacks *r = t->owner;
        JsonObject *o = NULL;

        if (!why) {
                o = json_object_new();
                json_object_set_string_member(o, "vm", t->vm);
                json_object_set_string_member(o, "to", t->to->name);
                json_object_set_string_member(o, "before", t->before->name);
                json_object_set_boolean_member(o, "running", rollback_is_running(t));
                snapshot_upload_begin(r->env, r->jobs, t->before);
        }
        event_log(why ? EVENT_WARNING : EVENT_NOTICE,
                  why ? "snapshot-rollback-failed" : "snapshot-rolled-back", why ? why->message : t->to->name,
                  "vm", t->vm, "snapshot", t->to ? t->to->id : "", NULL);
        job_task_hide(&t->job);
        job_task_report(&t->job, o, why);
        if (t->held)
                layer_refs_drop_all(r->refs, t->held);
        g_ptr_array_remove(r->tasks, t);
}

static gboolean end_layer(Catalogue *c, const char *id, SnapshotState state, gint64 when_us, GError **error)
{
        return state == SNAPSHOT_TAKEN ? catalogue_layer_seal(c, id, when_us, error)
                                       : catalogue_layer_drop(c, id, error);
}

static gboolean end_rows(struct rollback *t, SnapshotState state, GError **error)
{
        Catalogue *c = t->owner->catalogue;
        gboolean ok;

        if (!catalogue_begin(c, error))
                return FALSE;
        t->before->state = state;
        ok = catalogue_snapshot_update(c, t->before, error);
        for (guint i = 0; ok && i < t->before->disks->len; i++) {
                const struct snapshot_disk *d = t->before->disks->pdata[i];
                g_autofree char *id = layer_name_id(d->layer);

                ok = end_layer(c, id, state, t->before->taken_us, error) &&
                     (!t->ways || !t->ways[i].has_copy ||
                      end_layer(c, d->next_on, state, t->before->taken_us, error));
        }
        return catalogue_end(c, ok, error);
}

/* What has happened is true whether it can be written or not. */
static void not_stored(struct rollback *t, const GError *error, GSourceFunc again)
{
        event_log(EVENT_ERROR, "snapshot-not-stored", error->message, "vm", t->vm, "snapshot", t->job.id,
                  NULL);
        t->again = host_timer_add(t->owner->env, STORE_AGAIN_MS, again, t);
}

/* ---- steps in a worker thread, for each disk ---- */

static gpointer work_all(gpointer data, GCancellable *cancellable, GError **error)
{
        struct rollback *t = data;

        for (guint i = 0; i < t->to->disks->len; i++)
                if (!t->work(t, &t->ways[i], error))
                        return NULL;
        return t;
}

static void on_worked(gpointer result, GError *error, gpointer user)
{
        struct rollback *t = user;

        t->working = FALSE;
        if (t->owner->closing)
                return;
        if (error && t->work == rollback_place_one)
                rollback_place_failed(t, error);
        else if (error)
                rollback_fail(t, error);
        else
                t->then(t);
}

void rollback_run(struct rollback *t, gboolean (*work)(struct rollback *, struct way *, GError **),
                  void (*then)(struct rollback *), GCancellable *cancellable)
{
        const struct host_env *env = t->owner->env;

        t->work = work;
        t->then = then;
        t->working = TRUE;
        env->worker->run(env->self, work_all, t, cancellable, on_worked, t);
}

/* ---- the way back ---- */

static gboolean remove_one(struct rollback *t, struct way *w, GError **error)
{
        if (w->part)
                unlink(w->part);
        if (w->has_copy)
                unlink(w->below);
        return !w->files || layer_files_remove_next(w->files, error);
}

static void failed_for_good(struct rollback *t);

static gboolean on_failed_again(gpointer user)
{
        struct rollback *t = user;

        host_timer_clear(&t->again);
        failed_for_good(t);
        return G_SOURCE_REMOVE;
}

static void failed_for_good(struct rollback *t)
{
        g_autoptr(GError) error = NULL;

        if (t->is_known) {
                g_free(t->before->why);
                t->before->why = g_strdup(t->error->message);
                if (!end_rows(t, SNAPSHOT_FAILED, &error)) {
                        not_stored(t, error, on_failed_again);
                        return;
                }
        }
        rollback_end(t, t->error);
}

static void resume(struct rollback *t);

static gboolean on_again(gpointer user)
{
        struct rollback *t = user;

        host_timer_clear(&t->again);
        resume(t);
        return G_SOURCE_REMOVE;
}

static void try_again(struct rollback *t, const GError *error)
{
        event_log(EVENT_ERROR,
                  t->before->state == SNAPSHOT_STOPPED ? "snapshot-rollback-stopped" : "snapshot-not-placed",
                  error->message, "vm", t->vm, "snapshot", t->job.id, NULL);
        t->again = host_timer_add(t->owner->env, AGAIN_MS, on_again, t);
}

/* One that an earlier moultd has begun, and a path that may have been given away, are looked at until it is
 * known what is true, and then brought to that end. */
void rollback_fail(struct rollback *t, const GError *error)
{
        if (t->unsure || t->placing) {
                try_again(t, error);
                return;
        }
        if (t->error) { /* on the way back: what is left is an empty file */
                failed_for_good(t);
                return;
        }
        t->error = g_error_copy(error);
        if (t->ways)
                rollback_run(t, remove_one, failed_for_good, NULL);
        else
                failed_for_good(t);
}

static gboolean on_store_again(gpointer user);

void rollback_record(struct rollback *t)
{
        g_autoptr(GError) error = NULL;

        if (t->before->taken_us == 0)
                t->before->taken_us = host_wall_us(t->owner->env);
        if (end_rows(t, SNAPSHOT_TAKEN, &error))
                rollback_end(t, NULL);
        else
                not_stored(t, error, on_store_again);
}

static gboolean on_store_again(gpointer user)
{
        struct rollback *t = user;

        host_timer_clear(&t->again);
        rollback_record(t);
        return G_SOURCE_REMOVE;
}

/* ---- is it off? ---- */

static void begin_looking(struct rollback *t)
{
        g_autoptr(GError) error = NULL;

        if (rollback_open_ways(t, &error)) {
                layer_refs_take_all(t->owner->refs, t->held);
                rollback_look(t);
        } else {
                rollback_fail(t, error);
        }
}

static void on_measured(gpointer result, GError *error, gpointer user)
{
        struct rollback *t = user;
        g_autoptr(GError) why = NULL;

        t->working = FALSE;
        if (t->owner->closing)
                return;
        if (error || !rollback_plan(t, &why))
                rollback_fail(t, error ? error : why);
        else
                begin_looking(t);
}

static void measure(struct rollback *t)
{
        const struct host_env *env = t->owner->env;

        t->sizes = g_new0(guint64, t->to->disks->len + 1);
        t->working = TRUE;
        env->worker->run(env->self, rollback_measure, t, t->job.cancellable, on_measured, t);
}

static void on_first_asked(struct rollback *t)
{
        g_autoptr(GError) why = NULL;

        if (!rollback_is_migrating(t)) {
                measure(t);
                return;
        }
        why = g_error_new(MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                          "QEMU says that VM \"%s\" is in state %s. Nothing was changed", t->vm, t->status);
        rollback_fail(t, why);
}

static gboolean is_possible(const SnapshotRecord *to, GError **error)
{
        if (to->state == SNAPSHOT_TAKEN && to->disks->len <= RESTORED)
                return TRUE;
        if (to->state != SNAPSHOT_TAKEN)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE, "snapshot \"%s\" is not taken",
                            to->name);
        else
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                        "snapshot \"%s\" has more than %u disks, and this moult rolls back that many at most",
                        to->name, RESTORED);
        return FALSE;
}

static gboolean prepare(struct rollback *t, GError **error)
{
        SnapshotRollbacks *r = t->owner;
        g_autoptr(VmRecord) vm = catalogue_vm_get(r->catalogue, t->vm, error);

        if (!vm)
                return FALSE;
        if (vm->libvirt && !libvirt_uri_is_local(vm->libvirt)) {
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                        "VM \"%s\" is a domain of the libvirt %s: the files of its disks are on that host. "
                        "Nothing was changed",
                        t->vm, vm->libvirt);
                return FALSE;
        }
        t->is_domain = vm->libvirt != NULL;
        t->to = catalogue_snapshot_get(r->catalogue, t->target, error);
        return t->to && is_possible(t->to, error);
}

static void wait_for_turn(struct rollback *t, vm_turn_func granted)
{
        const char *other =
                vm_turns_ask(t->owner->turns, t->vm, "the disks are being rolled back", granted, t);

        t->waiting = TRUE;
        if (other)
                event_log(EVENT_INFO, "snapshot-waits", other, "vm", t->vm, "operation", t->job.id, NULL);
}

/* FALSE: it is too late. */
static gboolean came_to_turn(struct rollback *t)
{
        t->waiting = FALSE;
        t->has_turn = TRUE;
        return !t->owner->closing;
}

static void on_turn_again(gpointer user)
{
        if (came_to_turn(user))
                begin_looking(user);
}

/* From what is there. */
static void resume(struct rollback *t)
{
        g_autoptr(GError) error = NULL;

        if (t->ways)
                rollback_look(t);
        else if (!t->to && !(t->to = catalogue_snapshot_get(t->owner->catalogue, t->target, &error)))
                rollback_fail(t, error);
        else if (t->has_turn)
                begin_looking(t);
        else
                wait_for_turn(t, on_turn_again);
}

static void on_turn(gpointer user)
{
        struct rollback *t = user;
        g_autoptr(GError) error = NULL;

        if (!came_to_turn(t))
                return;
        if (!prepare(t, &error)) {
                rollback_end(t, error);
                return;
        }
        rollback_ask(t, on_first_asked);
}

static void begin(const OperationRecord *op, gpointer user)
{
        SnapshotRollbacks *r = user;
        struct rollback *t = g_new0(struct rollback, 1);
        g_autoptr(JsonNode) node = json_from_string(op->request, NULL);
        JsonObject *o = json_node_get_object(node);
        g_autoptr(GError) error = NULL;

        t->owner = r;
        t->vm = g_strdup(json_object_get_string_member(o, "vm"));
        t->target = g_strdup(json_object_get_string_member(o, "snapshot"));
        t->restart = json_object_get_boolean_member_with_default(o, "restart", FALSE);
        job_task_init(&t->job, r->catalogue, r->jobs, op->id);
        g_ptr_array_add(r->tasks, t);
        t->before = catalogue_snapshot_get(r->catalogue, op->id, &error);
        t->is_known = t->before != NULL;
        if (g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND)) {
                wait_for_turn(t, on_turn);
        } else if (t->before && t->before->state == SNAPSHOT_FAILED) {
                g_clear_error(&error);
                error = g_error_new(MOULT_ERROR, MOULT_ERROR_CANCELLED, "%s",
                                    t->before->why ? t->before->why : "it has not happened");
                rollback_end(t, error);
        } else if (t->before && t->before->state == SNAPSHOT_TAKEN &&
                   (t->to = catalogue_snapshot_get(r->catalogue, t->target, NULL))) {
                rollback_end(t, NULL);
        } else if (t->before) {
                t->unsure = TRUE;
                resume(t);
        } else {
                rollback_end(t, error);
        }
}

static void end_cancelled(struct rollback *t)
{
        g_autoptr(GError) cancelled =
                g_error_new_literal(MOULT_ERROR, MOULT_ERROR_CANCELLED, "cancelled before its turn came");

        rollback_end(t, cancelled);
}

static void cancel(const OperationRecord *op, gpointer user)
{
        SnapshotRollbacks *r = user;

        for (guint i = 0; i < r->tasks->len; i++) {
                struct rollback *t = r->tasks->pdata[i];

                if (!g_str_equal(t->job.id, op->id))
                        continue;
                job_task_cancel(&t->job);
                if (t->restore)
                        restore_cancel(t->restore);
                if (t->waiting && !t->unsure)
                        end_cancelled(t);
                return;
        }
}

SnapshotRollbacks *snapshot_rollbacks_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                          const struct guest_view *guests, VmTurns *turns, LayerRefs *refs)
{
        static const struct job_kind kind = {"snapshot-rollback", begin, begin, cancel};
        SnapshotRollbacks *r = g_new0(SnapshotRollbacks, 1);

        r->env = env;
        r->catalogue = c;
        r->jobs = jobs;
        r->guests = *guests;
        r->turns = turns;
        r->refs = refs;
        r->tasks = g_ptr_array_new_with_free_func(task_free);
        jobs_register(jobs, &kind, r);
        return r;
}

static gboolean is_busy(const SnapshotRollbacks *r)
{
        for (guint i = 0; i < r->tasks->len; i++) {
                const struct rollback *t = r->tasks->pdata[i];

                if (t->asking || t->working || t->restore)
                        return TRUE;
        }
        return FALSE;
}

void snapshot_rollbacks_free(SnapshotRollbacks *r)
{
        if (!r)
                return;
        r->closing = TRUE;
        for (guint i = 0; i < r->tasks->len; i++) {
                struct rollback *t = r->tasks->pdata[i];

                job_task_leave(&t->job);
                host_timer_clear(&t->again);
                if (t->restore)
                        restore_cancel(t->restore);
        }
        while (is_busy(r))
                g_main_context_iteration(r->env->context, TRUE);
        g_ptr_array_unref(r->tasks);
        g_free(r);
}
