/* host-service/snapshot/merge.c - the steps of a merge in their order, and what is written down. */
#include "host-service/snapshot/merge.h"

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/snapshot/layer_image.h"
#include "host-service/snapshot/merge_files.h"
#include "host-service/snapshot/merge_private.h"

static const merge_step way_begin[], way_make[], way_settle[], way_look[];

void merge_take(SnapshotMerge *m, const merge_step *way)
{
        m->steps = way;
        (*m->steps)(m);
}

void merge_next(SnapshotMerge *m)
{
        merge_take(m, m->steps + 1);
}

void merge_end_with(SnapshotMerge *m, const GError *error)
{
        m->done(&m->result, error, m->user);
}

void merge_unsettled(SnapshotMerge *m, const GError *error)
{
        m->result.unsettled = TRUE;
        merge_end_with(m, error);
}

void merge_fail(SnapshotMerge *m, const GError *error)
{
        if (!m->error)
                m->error = g_error_copy(error);
        merge_take(m, m->kind->back);
}

void merge_settle_again(SnapshotMerge *m, const GError *error)
{
        if (!m->error)
                m->error = g_error_copy(error);
        merge_take(m, way_settle);
}

static void no_way(SnapshotMerge *m, JsonObject *arguments, hypervisor_reply_func done)
{
        g_autoptr(GError) none = g_error_new(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                                             "the way to the QEMU of \"%s\" was removed meanwhile", m->vm);

        if (arguments)
                json_object_unref(arguments);
        done(NULL, none, m);
}

void merge_command(SnapshotMerge *m, const char *name, JsonObject *arguments, hypervisor_reply_func done)
{
        Hypervisor *h = m->guests->ops->hypervisor(m->guests->self, m->vm);

        if (h)
                hypervisor_command(h, name, arguments, done, m);
        else
                no_way(m, arguments, done);
}

void merge_ask_domain(SnapshotMerge *m, VirtDisks what, JsonObject *arguments, hypervisor_reply_func done)
{
        Hypervisor *h = m->guests->ops->hypervisor(m->guests->self, m->vm);

        if (h)
                hypervisor_disks(h, what, arguments, done, m);
        else
                no_way(m, arguments, done);
}

/* ---- references: while files are read ---- */

static void hold(SnapshotMerge *m)
{
        layer_refs_take(m->refs, m->r->upper);
        layer_refs_take(m->refs, m->r->lower);
        m->reading = TRUE;
}

static void let_go(SnapshotMerge *m)
{
        if (!m->reading)
                return;
        m->reading = FALSE;
        layer_refs_drop(m->refs, m->r->lower);
        layer_refs_drop(m->refs, m->r->upper);
}

static void forget_row(SnapshotMerge *m)
{
        let_go(m);
        g_clear_pointer(&m->r, merge_record_free);
        g_clear_pointer(&m->next, g_free);
        g_clear_pointer(&m->chain, g_ptr_array_unref);
}

/* ---- workers ---- */

static void really_free(SnapshotMerge *m)
{
        forget_row(m);
        g_clear_pointer(&m->found, g_ptr_array_unref);
        g_clear_pointer(&m->domain, json_node_unref);
        g_clear_pointer(&m->known, g_ptr_array_unref);
        g_clear_error(&m->off_error);
        g_clear_pointer(&m->top_options, json_object_unref);
        g_clear_pointer(&m->old, g_ptr_array_unref);
        g_clear_error(&m->error);
        g_object_unref(m->cancellable);
        g_free(m->look.backing);
        g_free(m->top);
        g_free(m->top_file);
        g_free(m->below);
        g_free(m->vm);
        g_free(m);
}

gboolean merge_came_back(SnapshotMerge *m)
{
        m->working = FALSE;
        if (m->gone)
                really_free(m);
        else
                return TRUE;
        return FALSE;
}

void merge_run(SnapshotMerge *m, host_work_func work, gboolean may_cancel, host_work_done done)
{
        m->working = TRUE;
        m->env->worker->run(m->env->self, work, m, may_cancel ? m->cancellable : NULL, done, m);
}

/* ---- what there is ---- */

/* Where nothing is under way there is nothing to settle; a create finds out itself. */
void merge_not_asked(SnapshotMerge *m, const GError *error)
{
        if (m->r)
                merge_unsettled(m, error);
        else
                merge_end_with(m, m->which == MERGE_ALL ? error : NULL);
}

static void on_status(HypervisorStatus status, const GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        m->status = status;
        if (error)
                merge_not_asked(m, error);
        else
                merge_next(m);
}

void merge_step_ask_status(SnapshotMerge *m)
{
        Hypervisor *h = m->guests->ops->hypervisor(m->guests->self, m->vm);

        if (h)
                hypervisor_query_status(h, on_status, m);
        else
                on_status(HYPERVISOR_GONE, NULL, m);
}

static void on_found(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotMerge *m = user;
        g_autoptr(GError) odd = NULL;

        m->found = error ? NULL : vm_disks_of(result);
        if (m->found) {
                merge_next(m);
                return;
        }
        odd = error ? g_error_copy(error)
                    : g_error_new_literal(MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                          "QEMU's answer is no list of drives");
        merge_not_asked(m, odd);
}

static void step_find(SnapshotMerge *m)
{
        g_clear_pointer(&m->found, g_ptr_array_unref);
        if (m->status == HYPERVISOR_GONE)
                merge_next(m);
        else
                merge_command(m, "query-block", NULL, on_found);
}

/* ---- which is next ---- */

static void step_begin(SnapshotMerge *m)
{
        g_autoptr(GError) error = NULL;

        forget_row(m);
        m->put = FALSE;
        if (merge_plan_begin(m, &error))
                merge_next(m);
        else
                merge_end_with(m, error);
}

static void step_take(SnapshotMerge *m)
{
        g_autoptr(GError) error = NULL;

        if (m->r)
                merge_take(m, m->r->state == MERGE_PLANNED ? m->kind->back : way_look);
        else if (!g_cancellable_set_error_if_cancelled(m->cancellable, &error) &&
                 merge_plan_choose(m, &error))
                merge_take(m, way_make);
        else
                merge_end_with(m, error);
}

/* ---- the new file ---- */

static void step_add_row(SnapshotMerge *m)
{
        g_autoptr(GError) error = NULL;

        if (catalogue_merge_add(m->catalogue, m->r, &error))
                merge_next(m);
        else
                merge_end_with(m, error);
}

/* The chain that QEMU has, or would have, is the one that a start from the path would have. */
static gboolean is_right(SnapshotMerge *m, const struct disk_image *chain, GError **error)
{
        g_free(m->look.backing);
        if (!merge_files_look(m->r, m->next, &m->look, error))
                return FALSE;
        if (m->look.path_use == (m->found ? IMAGE_WRITTEN : IMAGE_FREE) && m->kind->settle(m) == MERGE_APART)
                return m->found || layer_images_check(chain, m->chain->len, 2, error);
        if (!m->found && m->look.path_use != IMAGE_FREE)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "the history of the disk %s is not merged: %s is in use, and no QEMU's monitor "
                            "answers for it. Nothing was touched",
                            m->r->device, m->r->path);
        else
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "the history of the disk %s is not merged: %s is not what %s, or this file "
                            "system has no locks. Somebody else has changed the chain; nothing was touched",
                            m->r->device, m->r->path,
                            m->found ? "QEMU has open" : "the last snapshot has left");
        return FALSE;
}

static gpointer work_make(gpointer data, GCancellable *c, GError **error)
{
        SnapshotMerge *m = data;
        g_autofree struct disk_image *chain = g_new(struct disk_image, m->chain->len);

        for (guint i = 0; i < m->chain->len; i++)
                chain[i] = *(const struct disk_image *)m->chain->pdata[i];
        return is_right(m, chain, error) &&
                               (m->which != MERGE_STORED ||
                                merge_files_have_room(m->r, m->next != NULL, error)) &&
                               merge_files_make(m->r, chain, m->chain->len, QEMU_IMG, c, error)
                       ? m
                       : NULL;
}

static void on_made(gpointer result, GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        if (!merge_came_back(m))
                return;
        let_go(m);
        if (error)
                merge_fail(m, error);
        else
                merge_next(m);
}

static void step_make(SnapshotMerge *m)
{
        hold(m);
        merge_run(m, work_make, /* may_cancel= */ TRUE, on_made);
}

static void step_mark_compared(SnapshotMerge *m)
{
        g_autoptr(GError) error = NULL;

        fault_point("merge-compared");
        if (!catalogue_merge_set_state(m->catalogue, m->r->id, MERGE_COMPARED, &error)) {
                merge_fail(m, error);
                return;
        }
        m->r->state = MERGE_COMPARED;
        merge_take(m, way_settle);
}

/* ---- the end ---- */

void merge_step_record(SnapshotMerge *m)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *new_top = m->look.is_next ? g_path_get_basename(m->next) : NULL;

        fault_point("merge-record");
        if (!catalogue_merge_record(m->catalogue, m->r, new_top, &error)) {
                merge_unsettled(m, error);
                return;
        }
        fault_point("merge-recorded");
        event_log(EVENT_INFO, "merge-done", "history and a layer are one file", "vm", m->vm, "disk",
                  m->r->device, "merge", m->r->id, NULL);
        m->result.merged++;
        files_sweep_run(m->sweep);
        merge_take(m, way_begin);
}

static gpointer work_remove(gpointer data, GCancellable *c, GError **error)
{
        SnapshotMerge *m = data;

        return merge_files_remove(m->r->file, error) ? m : NULL;
}

static void on_removed(gpointer result, GError *error, gpointer user)
{
        SnapshotMerge *m = user;
        g_autoptr(GError) unwritten = NULL;

        if (!merge_came_back(m))
                return;
        if (error)
                merge_unsettled(m, error);
        else if (!catalogue_merge_remove(m->catalogue, m->r->id, &unwritten))
                merge_unsettled(m, unwritten);
        else if (m->error)
                merge_end_with(m, m->error);
        else
                merge_take(m, way_begin); /* it was an earlier moultd's: once more */
}

void merge_step_remove(SnapshotMerge *m)
{
        merge_run(m, work_remove, /* may_cancel= */ FALSE, on_removed);
}

/* ---- ways ---- */

static const merge_step way_begin[] = {step_begin, merge_step_ask_status, step_find, merge_step_ask_domain,
                                       step_take};
static const merge_step way_make[] = {step_add_row, step_make, step_mark_compared};
static const merge_step way_settle[] = {merge_step_ask_status, step_find, merge_step_ask_domain,
                                        merge_step_look};
static const merge_step way_look[] = {merge_step_look};

void merge_step_settle(SnapshotMerge *m)
{
        merge_take(m, way_settle);
}

SnapshotMerge *snapshot_merge_new(const struct host_env *env, Catalogue *c, const struct guest_view *guests,
                                  LayerRefs *refs, FilesSweep *sweep, const char *vm, MergeWhich which,
                                  snapshot_merged_func done, gpointer user)
{
        SnapshotMerge *m = g_new0(SnapshotMerge, 1);

        m->env = env;
        m->catalogue = c;
        m->guests = guests;
        m->refs = refs;
        m->sweep = sweep;
        m->vm = g_strdup(vm);
        m->which = which;
        m->done = done;
        m->user = user;
        m->cancellable = g_cancellable_new();
        merge_take(m, way_begin);
        return m;
}

void snapshot_merge_cancel(SnapshotMerge *m)
{
        g_cancellable_cancel(m->cancellable);
}

void snapshot_merge_free(SnapshotMerge *m)
{
        if (!m)
                return;
        g_cancellable_cancel(m->cancellable);
        let_go(m);
        m->gone = TRUE;
        if (!m->working)
                really_free(m);
}
