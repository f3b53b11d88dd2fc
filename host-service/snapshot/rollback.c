/* host-service/snapshot/rollback.c - the job of a rollback: how it begins, and its turn. */
#include "host-service/snapshot/rollback.h"

#include "common/error.h"
#include "common/events.h"
#include "host-service/catalogue/json.h"
#include "host-service/catalogue/vms.h"
#include "host-service/hypervisor/libvirt_uri.h"
#include "host-service/snapshot/rollback_private.h"

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

/* What it says to the guest, and what it has on record of it, would be of another state of the disks. */
static gboolean is_pushed(const struct rollback *t, GError **error)
{
        const struct guest_view *g = &t->owner->guests;
        g_autofree char *operation = g->ops->pushed_by(g->self, t->vm);

        if (operation)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "a push to VM \"%s\" is under way (operation %s): wait for its end "
                            "('moult jobs wait %s'), or cancel it, and ask again. Nothing was changed",
                            t->vm, operation, operation);
        return operation != NULL;
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
        if (is_pushed(t, error))
                return FALSE;
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
void rollback_resume(struct rollback *t)
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
                rollback_resume(t);
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

gboolean snapshot_rollbacks_has(const SnapshotRollbacks *r, const char *vm)
{
        for (guint i = 0; i < r->tasks->len; i++) {
                const struct rollback *t = r->tasks->pdata[i];

                if ((t->has_turn || t->is_known) && g_str_equal(t->vm, vm))
                        return TRUE;
        }
        return FALSE;
}

void snapshot_rollbacks_set_over(SnapshotRollbacks *r, snapshot_rollback_over_func over, gpointer user)
{
        r->over = over;
        r->over_user = user;
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
