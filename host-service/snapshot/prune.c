/* host-service/snapshot/prune.c - restore points go: from the catalogue at once, then what they have left. */
#include "host-service/snapshot/prune.h"

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/catalogue/json.h"
#include "host-service/catalogue/removals.h"
#include "host-service/jobs/job_task.h"
#include "host-service/snapshot/manifest_sweep.h"
#include "host-service/snapshot/prune_needs.h"
#include "host-service/snapshot/prune_plan.h"

struct SnapshotPrunes {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        SnapshotManager *manager;
        const SnapshotMounts *mounts;
        ManifestSweep *manifests;
        GPtrArray *tasks; /* of struct task: removed, and waiting for the store */
};

struct task {
        SnapshotPrunes *owner;
        struct job_task job;
        JsonObject *result;
};

static void task_free(gpointer data)
{
        struct task *t = data;

        job_task_clear(&t->job);
        g_clear_pointer(&t->result, json_object_unref);
        g_free(t);
}

static void end(struct task *t, const GError *why)
{
        job_task_report(&t->job, why ? NULL : g_steal_pointer(&t->result), why);
        g_ptr_array_remove(t->owner->tasks, t);
}

/* ---- what the store has ---- */

/* Who waits is told; what could not be removed is tried again without him. */
static void on_swept(guint left, const GError *why, gpointer user)
{
        SnapshotPrunes *p = user;

        while (p->tasks->len > 0) {
                struct task *t = p->tasks->pdata[0];

                json_object_set_int_member(t->result, "left_in_store", left);
                json_object_set_text(t->result, "left_why", why ? why->message : NULL);
                end(t, NULL);
        }
}

/* ---- the catalogue ---- */

static JsonObject *verdict_json(const struct prune_verdict *v)
{
        JsonObject *o = json_object_new();
        JsonArray *reasons = json_array_new();

        json_object_set_string_member(o, "id", v->s->id);
        json_object_set_string_member(o, "name", v->s->name);
        json_object_set_time(o, "taken", v->s->taken_us);
        for (guint i = 0; i < v->reasons->len; i++)
                json_array_add_string_element(reasons, v->reasons->pdata[i]);
        json_object_set_array_member(o, "reasons", reasons);
        return o;
}

static JsonObject *result_of(const char *vm, gboolean dry, const GPtrArray *verdicts)
{
        JsonObject *o = json_object_new();
        JsonArray *removed = json_array_new(), *kept = json_array_new();

        for (guint i = 0; i < verdicts->len; i++) {
                const struct prune_verdict *v = verdicts->pdata[i];

                json_array_add_object_element(v->reasons->len > 0 ? kept : removed, verdict_json(v));
        }
        json_object_set_string_member(o, "vm", vm);
        json_object_set_boolean_member(o, "dry_run", dry);
        json_object_set_array_member(o, "removed", removed);
        json_object_set_array_member(o, "kept", kept);
        return o;
}

static gboolean remove_all(SnapshotPrunes *p, const GPtrArray *verdicts, GError **error)
{
        for (guint i = 0; i < verdicts->len; i++) {
                const struct prune_verdict *v = verdicts->pdata[i];

                if (v->reasons->len == 0 && !catalogue_snapshot_remove(p->catalogue, v->s->id, error))
                        return FALSE;
        }
        return TRUE;
}

static void tell(const char *vm, const GPtrArray *verdicts)
{
        for (guint i = 0; i < verdicts->len; i++) {
                const struct prune_verdict *v = verdicts->pdata[i];

                if (v->reasons->len == 0)
                        event_log(EVENT_INFO, "snapshot-removed", v->s->name, "vm", vm, "snapshot", v->s->id,
                                  NULL);
        }
}

/* All or none; then nobody finds them any more, and what they have left is swept. */
static void carry_out(struct task *t, const char *vm, const GPtrArray *verdicts)
{
        SnapshotPrunes *p = t->owner;
        g_autoptr(GError) error = NULL;

        if (!catalogue_begin(p->catalogue, &error) ||
            !catalogue_end(p->catalogue, remove_all(p, verdicts, &error), &error)) {
                end(t, error);
                return;
        }
        fault_point("snapshot-removed");
        tell(vm, verdicts);
        t->result = result_of(vm, FALSE, verdicts);
        snapshot_layers_look(p->manager, vm);
        snapshot_files_sweep(p->manager);
        manifest_sweep_run(p->manifests);
}

/* ---- jobs ---- */

static struct task *task_new(SnapshotPrunes *p, const OperationRecord *op)
{
        struct task *t = g_new0(struct task, 1);

        t->owner = p;
        job_task_init(&t->job, p->catalogue, p->jobs, op->id);
        g_ptr_array_add(p->tasks, t);
        return t;
}

static JsonObject *request_of(const OperationRecord *op)
{
        g_autoptr(JsonNode) node = json_from_string(op->request, NULL);

        return json_object_ref(json_node_get_object(node));
}

static GPtrArray *taken_of(Catalogue *c, const char *vm, GError **error)
{
        GPtrArray *all = catalogue_snapshot_list(c, vm, G_MAXUINT, error);

        for (guint i = all ? all->len : 0; i-- > 0;)
                if (((const SnapshotRecord *)all->pdata[i])->state != SNAPSHOT_TAKEN)
                        g_ptr_array_remove_index(all, i);
        return all;
}

/* What is mounted is told first: it is for whoever asks to end that. */
static GHashTable *needs(SnapshotPrunes *p, const GPtrArray *all, GError **error)
{
        g_autoptr(GHashTable) needed = prune_needs(p->catalogue, all, error);

        for (guint i = 0; needed && i < all->len; i++) {
                const SnapshotRecord *s = all->pdata[i];

                if (snapshot_mounts_has(p->mounts, s->id))
                        g_hash_table_replace(
                                needed, s->id,
                                g_strdup("needed: it is mounted, until 'moult snapshot unmount'"));
        }
        return g_steal_pointer(&needed);
}

static void start_prune(const OperationRecord *op, gpointer user)
{
        SnapshotPrunes *p = user;
        struct task *t = task_new(p, op);
        g_autoptr(JsonObject) o = request_of(op);
        const char *vm = json_object_get_string_member(o, "vm");
        gboolean dry = json_object_get_boolean_member_with_default(o, "dry_run", FALSE);
        const struct prune_policy policy = prune_policy_from_json(o);
        g_autoptr(GTimeZone) zone = g_time_zone_new_local();
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) all = taken_of(p->catalogue, vm, &error);
        g_autoptr(GHashTable) needed = all ? needs(p, all, &error) : NULL;
        g_autoptr(GPtrArray) verdicts = needed ? prune_plan(all, &policy, needed, zone) : NULL;

        if (!verdicts) {
                end(t, error);
        } else if (dry) {
                t->result = result_of(vm, TRUE, verdicts);
                end(t, NULL);
        } else {
                carry_out(t, vm, verdicts);
        }
}

/* The one, unless something needs it. */
static GPtrArray *verdict_on(SnapshotPrunes *p, const GPtrArray *all, const char *id, GError **error)
{
        g_autoptr(GHashTable) needed = needs(p, all, error);
        const struct prune_policy none = {0};
        g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
        g_autoptr(GPtrArray) verdicts = needed ? prune_plan(all, &none, needed, utc) : NULL;

        for (guint i = verdicts ? verdicts->len : 0; i-- > 0;)
                if (!g_str_equal(((const struct prune_verdict *)verdicts->pdata[i])->s->id, id))
                        g_ptr_array_remove_index(verdicts, i);
        if (!verdicts || verdicts->len == 0)
                return g_steal_pointer(&verdicts);
        const struct prune_verdict *v = verdicts->pdata[0];
        if (v->reasons->len == 0)
                return g_steal_pointer(&verdicts);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "restore point %s stays (%s): the newest one of a disk can go when there is a newer one, "
                    "what a job "
                    "needs when that has ended",
                    v->s->name, (const char *)v->reasons->pdata[v->reasons->len - 1]);
        return NULL;
}

/* One that is not there any more was removed before a restart. */
static void start_remove(const OperationRecord *op, gpointer user)
{
        SnapshotPrunes *p = user;
        struct task *t = task_new(p, op);
        g_autoptr(JsonObject) o = request_of(op);
        const char *vm = json_object_get_string_member(o, "vm");
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) all = taken_of(p->catalogue, vm, &error);
        g_autoptr(GPtrArray) verdicts =
                all ? verdict_on(p, all, json_object_get_string_member(o, "snapshot"), &error) : NULL;

        if (verdicts)
                carry_out(t, vm, verdicts);
        else
                end(t, error);
}

/* It is done when it has begun: what is left is nobody's loss. */
static void cancel(const OperationRecord *op, gpointer user)
{
}

SnapshotPrunes *snapshot_prunes_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                    SnapshotManager *manager, const SnapshotMounts *mounts)
{
        static const struct job_kind prune_kind = {"snapshot-prune", start_prune, start_prune, cancel},
                                     remove_kind = {"snapshot-remove", start_remove, start_remove, cancel};
        SnapshotPrunes *p = g_new0(SnapshotPrunes, 1);

        p->env = env;
        p->catalogue = c;
        p->jobs = jobs;
        p->manager = manager;
        p->mounts = mounts;
        p->tasks = g_ptr_array_new_with_free_func(task_free);
        p->manifests = manifest_sweep_new(env, c, on_swept, p);
        jobs_register(jobs, &prune_kind, p);
        jobs_register(jobs, &remove_kind, p);
        return p;
}

void snapshot_prunes_begin(SnapshotPrunes *p)
{
        snapshot_layers_look(p->manager, NULL);
        snapshot_files_sweep(p->manager);
        manifest_sweep_run(p->manifests);
}

void snapshot_prunes_free(SnapshotPrunes *p)
{
        if (!p)
                return;
        manifest_sweep_free(p->manifests);
        g_ptr_array_unref(p->tasks);
        g_free(p);
}
