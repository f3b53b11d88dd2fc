/* host-service/snapshot/snapshot_manager.c - the job kinds "snapshot-create" and "snapshot-merge". */
#include "host-service/snapshot/snapshot_manager.h"

#include <json-glib/json-glib.h>

#include "common/error.h"
#include "common/events.h"
#include "host-service/catalogue/json.h"
#include "host-service/snapshot/create.h"
#include "host-service/snapshot/files_sweep.h"
#include "host-service/snapshot/layers_sweep.h"
#include "host-service/snapshot/merge.h"
#include "host-service/snapshot/merge_choice.h"
#include "host-service/snapshot/upload.h"

#define SETTLE_AGAIN_MS 5000u

struct SnapshotManager {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        struct guest_view guests;
        VmTurns *turns;
        GPtrArray *runs; /* of struct run: those that have their turn, and those that wait for it */
        LayerRefs *refs;
        FilesSweep *sweep;
        LayersSweep *layers;
};

struct run {
        SnapshotManager *owner;
        char *id, *vm, *request;
        MergeWhich which;
        gboolean creates; /* and merges only what has no room */
        gboolean has_turn;
        gboolean resumed;          /* an earlier moultd has begun it: it may have left something half done */
        SnapshotRecord *unsettled; /* that one's snapshot; taken when it is its turn */
        SnapshotMerge *merge;
        struct merge_result merged;
        GError *merge_error;
        SnapshotCreate *create;
        gboolean cancelled;
        GSource *later; /* ends it from the loop, or looks again at what could not be settled */
};

static void run_free(struct run *r)
{
        vm_turns_leave(r->owner->turns, r);
        host_timer_clear(&r->later);
        snapshot_create_free(r->create);
        snapshot_merge_free(r->merge);
        snapshot_record_free(r->unsettled);
        g_clear_error(&r->merge_error);
        g_free(r->id);
        g_free(r->vm);
        g_free(r->request);
        g_free(r);
}

static void drop(struct run *r)
{
        g_ptr_array_remove(r->owner->runs, r);
        run_free(r);
}

static gboolean on_over(gpointer user)
{
        struct run *r = user;

        snapshot_files_sweep(r->owner); /* something may have been uploaded since the last one */
        drop(r);
        return G_SOURCE_REMOVE;
}

static void finish(struct run *r, const char *result, const GError *error)
{
        gboolean cancelled = g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
                             (r->cancelled && g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CANCELLED));

        jobs_finish(r->owner->jobs, r->id,
                    !error      ? OPERATION_SUCCEEDED
                    : cancelled ? OPERATION_CANCELLED
                                : OPERATION_FAILED,
                    result, error);
}

static gboolean on_settle_again(gpointer user);

/* The request of an operation; owned. */
static JsonObject *request_of(SnapshotManager *m, const char *id)
{
        g_autoptr(OperationRecord) op = catalogue_operation_get(m->catalogue, id, NULL);
        g_autoptr(JsonNode) node = op ? json_from_string(op->request, NULL) : NULL;

        return node ? json_object_ref(json_node_get_object(node)) : NULL;
}

/* It goes to the store in the background, unless that is not wanted. */
static void begin_upload(SnapshotManager *m, const SnapshotRecord *s)
{
        g_autoptr(JsonObject) made = request_of(m, s->id);

        if (made && json_object_get_boolean_member_with_default(made, "upload", TRUE))
                snapshot_upload_begin(m->env, m->jobs, s);
}

static void on_created(const SnapshotRecord *s, const GError *error, gpointer user)
{
        struct run *r = user;
        SnapshotManager *m = r->owner;
        g_autoptr(SnapshotRecord) kept = catalogue_snapshot_get(m->catalogue, r->id, NULL);
        g_autofree char *result = NULL;

        if (kept && !snapshot_state_is_final(kept->state)) {
                event_log(EVENT_WARNING, "snapshot-unsettled",
                          "what has become of a snapshot could not be found out; it is tried again", "vm",
                          r->vm, "snapshot", r->id, "why", error ? error->message : "", NULL);
                r->later = host_timer_add(m->env, SETTLE_AGAIN_MS, on_settle_again, r);
                return;
        }
        if (!error) {
                result = json_object_text(snapshot_record_to_json(s));
                begin_upload(m, s);
        }
        event_log(error ? EVENT_WARNING : EVENT_INFO, error ? "snapshot-failed" : "snapshot-taken",
                  error ? error->message : snapshot_grade_name(s->grade), "vm", r->vm, "snapshot", r->id,
                  NULL);
        finish(r, result, error);
        r->later = host_timer_add(m->env, 0, on_over, r); /* we are called from inside of it */
}

static void settle(struct run *r, SnapshotRecord *record)
{
        SnapshotManager *m = r->owner;

        g_clear_pointer(&r->create, snapshot_create_free);
        r->create = snapshot_create_settle(m->env, m->catalogue, &m->guests, record, on_created, r);
        if (r->cancelled)
                snapshot_create_cancel(r->create);
}

static gboolean on_settle_again(gpointer user)
{
        struct run *r = user;
        SnapshotRecord *record = catalogue_snapshot_get(r->owner->catalogue, r->id, NULL);

        if (!record)
                return G_SOURCE_CONTINUE;
        host_timer_clear(&r->later);
        settle(r, record);
        return G_SOURCE_REMOVE;
}

static void begin_merge(struct run *r);

static void on_turn(gpointer user)
{
        struct run *r = user;

        r->has_turn = TRUE;
        if (r->unsettled)
                settle(r, g_steal_pointer(&r->unsettled));
        else
                begin_merge(r);
}

/* @which: what it merges, before it creates a snapshot or as all that it does. */
static struct run *run_new(SnapshotManager *m, const OperationRecord *op, const char *vm, gboolean creates,
                           MergeWhich which)
{
        struct run *r = g_new0(struct run, 1);
        const char *other;

        r->owner = m;
        r->id = g_strdup(op->id);
        r->vm = g_strdup(vm);
        r->request = g_strdup(op->request);
        r->creates = creates;
        r->which = which;
        g_ptr_array_add(m->runs, r);
        other = vm_turns_ask(m->turns, vm, creates ? "a snapshot is being taken" : "history is being merged",
                             on_turn, r);
        if (other)
                event_log(EVENT_INFO, "snapshot-waits", other, "vm", vm, "operation", op->id, NULL);
        return r;
}

static char **texts(JsonObject *o, const char *member)
{
        JsonArray *a = json_object_has_member(o, member) ? json_object_get_array_member(o, member) : NULL;
        guint n = a ? json_array_get_length(a) : 0;
        char **all = n > 0 ? g_new0(char *, n + 1) : NULL;

        for (guint i = 0; i < n; i++)
                all[i] = g_strdup(json_array_get_string_element(a, i));
        return all;
}

/* "20261129-200500": sorts, and is typed without quotes. */
static char *default_name(const SnapshotManager *m)
{
        g_autoptr(GDateTime) t = g_date_time_new_from_unix_utc(host_wall_us(m->env) / G_USEC_PER_SEC);

        return g_date_time_format(t, "%Y%m%d-%H%M%S");
}

static void begin_create(struct run *r)
{
        SnapshotManager *m = r->owner;
        g_autoptr(JsonNode) node = json_from_string(r->request, NULL);
        JsonObject *o = json_node_get_object(node);
        const char *name = json_object_get_string_member_with_default(o, "name", NULL);
        struct snapshot_options options = {
                .quiesce = json_object_get_boolean_member_with_default(o, "quiesce", TRUE),
                .require_quiesce = json_object_get_boolean_member_with_default(o, "require_quiesce", FALSE),
        };
        g_auto(GStrv) disks = texts(o, "disks");
        SnapshotRecord *record = snapshot_record_new();

        options.disks = disks;
        record->id = g_strdup(r->id);
        record->vm = g_strdup(r->vm);
        record->name = name ? g_strdup(name) : default_name(m);
        r->create = snapshot_create_new(m->env, m->catalogue, &m->guests, record, &options, on_created, r);
        if (r->cancelled)
                snapshot_create_cancel(r->create);
}

/* ---- merges ---- */

static gboolean on_merge_again(gpointer user)
{
        struct run *r = user;

        host_timer_clear(&r->later);
        begin_merge(r);
        return G_SOURCE_REMOVE;
}

/* Nobody has asked for it, and it cannot be done here: that is no failure. */
static void put_off(struct run *r)
{
        if (r->which != MERGE_STORED ||
            !g_error_matches(r->merge_error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED))
                return;
        event_log(EVENT_INFO, "merge-put-off", r->merge_error->message, "vm", r->vm, NULL);
        g_clear_error(&r->merge_error);
}

static void end_merge(struct run *r)
{
        JsonObject *o = json_object_new();
        g_autofree char *result = NULL;

        put_off(r);
        json_object_set_string_member(o, "vm", r->vm);
        json_object_set_int_member(o, "merged", r->merged.merged);
        result = json_object_text(o);
        if (r->merge_error && r->creates)
                g_prefix_error(&r->merge_error, "the chain of a disk has no room for another layer, and was "
                                                "not merged: ");
        if (r->merge_error)
                event_log(EVENT_WARNING, "merge-failed", r->merge_error->message, "vm", r->vm, NULL);
        finish(r, r->merge_error ? NULL : result, r->merge_error);
        drop(r);
}

static gboolean on_merge_over(gpointer user)
{
        struct run *r = user;

        host_timer_clear(&r->later);
        g_clear_pointer(&r->merge, snapshot_merge_free);
        if (r->merge_error && r->merged.unsettled) {
                event_log(EVENT_WARNING, "merge-unsettled",
                          "how far a merge has come could not be found out, or it could not go on; it is "
                          "tried again",
                          "vm", r->vm, "why", r->merge_error->message, NULL);
                r->later = host_timer_add(r->owner->env, SETTLE_AGAIN_MS, on_merge_again, r);
        } else if (r->creates && !r->merge_error) {
                begin_create(r);
        } else {
                end_merge(r);
        }
        return G_SOURCE_REMOVE;
}

/* It may run from inside of the merge's beginning, and does from inside of the merge. */
static void on_merged(const struct merge_result *result, const GError *error, gpointer user)
{
        struct run *r = user;

        r->merged.merged += result->merged;
        r->merged.unsettled = result->unsettled;
        g_clear_error(&r->merge_error);
        r->merge_error = error ? g_error_copy(error) : NULL;
        r->later = host_timer_add(r->owner->env, 0, on_merge_over, r);
}

static void begin_merge(struct run *r)
{
        SnapshotManager *m = r->owner;

        r->merge = snapshot_merge_new(m->env, m->catalogue, &m->guests, m->refs, m->sweep, r->vm, r->which,
                                      on_merged, r);
        if (r->cancelled)
                snapshot_merge_cancel(r->merge);
}

static void start(const OperationRecord *op, gpointer user)
{
        g_autoptr(JsonNode) node = json_from_string(op->request, NULL);

        run_new(user, op, json_object_get_string_member(json_node_get_object(node), "vm"), TRUE, MERGE_FULL);
}

static struct run *begin_merge_run(SnapshotManager *m, const OperationRecord *op)
{
        g_autoptr(JsonNode) node = json_from_string(op->request, NULL);
        JsonObject *o = json_node_get_object(node);
        gboolean by_itself = json_object_get_boolean_member_with_default(o, "by_itself", FALSE);

        return run_new(m, op, json_object_get_string_member(o, "vm"), FALSE,
                       by_itself ? MERGE_STORED : MERGE_ALL);
}

static void start_merge(const OperationRecord *op, gpointer user)
{
        begin_merge_run(user, op);
}

/* What there is to go on with is found. */
static void resume_merge(const OperationRecord *op, gpointer user)
{
        begin_merge_run(user, op)->resumed = TRUE;
}

static void resume(const OperationRecord *op, gpointer user)
{
        SnapshotManager *m = user;
        g_autoptr(GError) error = NULL;
        g_autoptr(SnapshotRecord) record = catalogue_snapshot_get(m->catalogue, op->id, &error);
        g_autofree char *result = NULL;
        struct run *r;

        if (g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND)) { /* nothing was done yet */
                start(op, user);
        } else if (!record) {
                jobs_finish(m->jobs, op->id, OPERATION_FAILED, NULL, error);
        } else if (record->state == SNAPSHOT_TAKEN) {
                result = json_object_text(snapshot_record_to_json(record));
                begin_upload(m, record);
                jobs_finish(m->jobs, op->id, OPERATION_SUCCEEDED, result, NULL);
        } else if (record->state == SNAPSHOT_FAILED) {
                error = g_error_new(MOULT_ERROR, MOULT_ERROR_CANCELLED, "%s",
                                    record->why ? record->why : "it was not taken");
                jobs_finish(m->jobs, op->id, OPERATION_FAILED, NULL, error);
        } else {
                r = run_new(m, op, record->vm, TRUE, MERGE_FULL);
                r->resumed = TRUE;
                r->unsettled = g_steal_pointer(&record);
        }
}

static void cancel_run(struct run *r)
{
        g_autoptr(GError) cancelled = NULL;

        r->cancelled = TRUE;
        if (r->create)
                snapshot_create_cancel(r->create);
        if (r->merge)
                snapshot_merge_cancel(r->merge);
        if (r->has_turn || r->resumed)
                return;
        cancelled = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_CANCELLED, "cancelled before its turn came");
        finish(r, NULL, cancelled);
        drop(r);
}

static void cancel(const OperationRecord *op, gpointer user)
{
        SnapshotManager *m = user;

        for (guint i = 0; i < m->runs->len; i++) {
                struct run *r = m->runs->pdata[i];

                if (g_str_equal(r->id, op->id)) {
                        cancel_run(r);
                        return;
                }
        }
}

static const struct job_kind kind = {
        .kind = "snapshot-create", .start = start, .resume = resume, .cancel = cancel};
static const struct job_kind merge_kind = {
        .kind = "snapshot-merge", .start = start_merge, .resume = resume_merge, .cancel = cancel};

static void on_layer_unused(const char *id, gpointer user)
{
        snapshot_files_sweep(user);
}

SnapshotManager *snapshot_manager_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                      const struct guest_view *guests, VmTurns *turns)
{
        SnapshotManager *m = g_new0(SnapshotManager, 1);

        m->env = env;
        m->catalogue = c;
        m->jobs = jobs;
        m->guests = *guests;
        m->turns = turns;
        m->runs = g_ptr_array_new();
        m->refs = layer_refs_new(on_layer_unused, m);
        m->layers = layers_sweep_new(env, c, m->refs);
        m->sweep = files_sweep_new(env, c, m->refs, m->layers);
        jobs_register(jobs, &kind, m);
        jobs_register(jobs, &merge_kind, m);
        return m;
}

void snapshot_manager_free(SnapshotManager *m)
{
        if (!m)
                return;
        while (m->runs->len > 0)
                drop(m->runs->pdata[0]);
        g_ptr_array_unref(m->runs);
        files_sweep_free(m->sweep);
        layers_sweep_free(m->layers);
        layer_refs_free(m->refs);
        g_free(m);
}

static gboolean is_coming(const SnapshotManager *m, const char *vm)
{
        for (guint i = 0; i < m->runs->len; i++) {
                const struct run *r = m->runs->pdata[i];

                if (r->which == MERGE_STORED && !r->has_turn && g_str_equal(r->vm, vm))
                        return TRUE;
        }
        return FALSE;
}

void snapshot_merge_after_upload(SnapshotManager *m, const SnapshotRecord *s)
{
        JsonObject *o;
        g_autofree char *request = NULL, *id = NULL;
        g_autoptr(GError) error = NULL;

        if (is_coming(m, s->vm) || !merge_choice_is_due(m->catalogue, s))
                return;
        o = json_object_new();
        json_object_set_string_member(o, "vm", s->vm);
        json_object_set_boolean_member(o, "by_itself", TRUE);
        request = json_object_text(o);
        id = jobs_add(m->jobs, "snapshot-merge", request, &error);
        if (!id)
                event_log(EVENT_WARNING, "merge-failed", error->message, "vm", s->vm, NULL);
}

void snapshot_files_sweep(SnapshotManager *m)
{
        files_sweep_run(m->sweep);
        layers_sweep_run(m->layers);
}

void snapshot_layers_look(SnapshotManager *m, const char *vm)
{
        layers_sweep_look(m->layers, vm);
}

LayerRefs *snapshot_layer_refs(SnapshotManager *m)
{
        return m->refs;
}
