/* host-service/snapshot/merge.c - the steps of a merge in their order, and what is written down. */
#include "host-service/snapshot/merge.h"

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/snapshot/layer_image.h"
#include "host-service/snapshot/merge_files.h"
#include "host-service/snapshot/merge_private.h"

#define QEMU_IMG "qemu-img"

static const merge_step way_begin[], way_make[], way_settle[], way_look[], way_put[], way_put_off[],
        way_header[], way_tidy[], way_back[];

static void take(SnapshotMerge *m, const merge_step *way)
{
        m->steps = way;
        (*m->steps)(m);
}

void merge_next(SnapshotMerge *m)
{
        take(m, m->steps + 1);
}

static void end_with(SnapshotMerge *m, const GError *error)
{
        m->done(&m->result, error, m->user);
}

void merge_unsettled(SnapshotMerge *m, const GError *error)
{
        m->result.unsettled = TRUE;
        end_with(m, error);
}

void merge_fail(SnapshotMerge *m, const GError *error)
{
        if (!m->error)
                m->error = g_error_copy(error);
        take(m, way_back);
}

void merge_settle_again(SnapshotMerge *m, const GError *error)
{
        if (!m->error)
                m->error = g_error_copy(error);
        take(m, way_settle);
}

void merge_command(SnapshotMerge *m, const char *name, JsonObject *arguments, hypervisor_reply_func done)
{
        Hypervisor *h = m->guests->ops->hypervisor(m->guests->self, m->vm);
        g_autoptr(GError) none = NULL;

        if (h) {
                hypervisor_command(h, name, arguments, done, m);
                return;
        }
        if (arguments)
                json_object_unref(arguments);
        none = g_error_new(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                           "the way to the QEMU of \"%s\" was removed meanwhile", m->vm);
        done(NULL, none, m);
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
        g_clear_pointer(&m->chain, g_ptr_array_unref);
}

/* ---- workers ---- */

static void really_free(SnapshotMerge *m)
{
        forget_row(m);
        g_clear_pointer(&m->found, g_ptr_array_unref);
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

/* FALSE: @m is gone. */
static gboolean came_back(SnapshotMerge *m)
{
        m->working = FALSE;
        if (m->gone)
                really_free(m);
        else
                return TRUE;
        return FALSE;
}

static void run(SnapshotMerge *m, host_work_func work, host_work_done done)
{
        m->working = TRUE;
        m->env->worker->run(m->env->self, work, m, m->cancellable, done, m);
}

/* ---- what there is ---- */

/* QEMU cannot be asked. Where nothing is under way there is nothing to settle; a create finds out itself. */
static void not_asked(SnapshotMerge *m, const GError *error)
{
        if (m->r)
                merge_unsettled(m, error);
        else
                end_with(m, m->which == MERGE_ALL ? error : NULL);
}

static void on_status(HypervisorStatus status, const GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        m->status = status;
        if (error)
                not_asked(m, error);
        else
                merge_next(m);
}

static void step_ask_status(SnapshotMerge *m)
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
        not_asked(m, odd);
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
                end_with(m, error);
}

static void step_take(SnapshotMerge *m)
{
        g_autoptr(GError) error = NULL;

        if (m->r)
                take(m, m->r->state == MERGE_PLANNED ? way_back : way_look);
        else if (!g_cancellable_set_error_if_cancelled(m->cancellable, &error) &&
                 merge_plan_choose(m, &error))
                take(m, way_make);
        else
                end_with(m, error);
}

/* ---- the new file ---- */

static void step_add_row(SnapshotMerge *m)
{
        g_autoptr(GError) error = NULL;

        if (catalogue_merge_add(m->catalogue, m->r, &error))
                merge_next(m);
        else
                end_with(m, error);
}

/* The chain that QEMU has, or would have, is the one that a start from the path would have. */
static gboolean is_right(SnapshotMerge *m, const struct disk_image *chain, GError **error)
{
        g_free(m->look.backing);
        if (!merge_files_look(m->r, &m->look, error))
                return FALSE;
        if (m->look.path_use == (m->found ? IMAGE_WRITTEN : IMAGE_FREE) &&
            merge_settle(m->r, m->found, &m->look) == MERGE_APART)
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
                               (m->which != MERGE_STORED || merge_files_have_room(m->r, error)) &&
                               merge_files_make(m->r, chain, m->chain->len, QEMU_IMG, c, error)
                       ? m
                       : NULL;
}

static void on_made(gpointer result, GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        if (!came_back(m))
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
        run(m, work_make, on_made);
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
        take(m, way_settle);
}

/* ---- how far it is ---- */

/* Somebody else's chain: what there is stays, for whoever changed it. */
static void leave(SnapshotMerge *m, const char *why)
{
        g_autoptr(GError) error = NULL, unwritten = NULL;

        if (!catalogue_merge_set_state(m->catalogue, m->r->id, MERGE_FOREIGN, &unwritten)) {
                merge_unsettled(m, unwritten);
                return;
        }
        error = g_error_new(
                MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                "somebody else has changed the disk %s while its history was merged (%s); nothing "
                "was touched. What was merged is in %s: nobody removes it if nothing stands on it",
                m->r->device, why, m->r->file);
        event_log(EVENT_WARNING, "merge-foreign", error->message, "vm", m->vm, "merge", m->r->id, NULL);
        end_with(m, error);
}

static void decide_apart(SnapshotMerge *m)
{
        if (!m->error)
                g_cancellable_set_error_if_cancelled(m->cancellable, &m->error);
        if (m->off_error && m->found) { /* it is QEMU's now */
                g_clear_error(&m->off_error);
                m->put = FALSE;
        }
        if (!m->error && m->off_error)
                m->error = g_steal_pointer(&m->off_error);
        if (!m->error && m->put) /* as the monitor's commands for people fail: without a word */
                g_set_error(&m->error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "QEMU did not put the disk %s on the merged file; it stays as it is",
                            m->r->device);
        m->put = TRUE;
        take(m, m->error ? way_back : m->found ? way_put : way_put_off);
}

static void decide(SnapshotMerge *m)
{
        MergeSettle settle = merge_settle(m->r, m->found, &m->look);
        g_autoptr(GError) busy = NULL;

        if (!m->found && m->look.path_use != IMAGE_FREE) {
                busy = g_error_new(MOULT_ERROR, MOULT_ERROR_BUSY, "a QEMU that cannot be asked has %s open",
                                   m->r->path);
                merge_unsettled(m, busy);
                return;
        }
        /* It may have ended since it was asked. */
        if (m->found && m->look.path_use != IMAGE_WRITTEN && settle != MERGE_STRANGE) {
                busy = g_error_new(MOULT_ERROR, MOULT_ERROR_BUSY, "no QEMU holds its lock on %s just now",
                                   m->r->path);
                merge_unsettled(m, busy);
                return;
        }
        switch (settle) {
        case MERGE_APART:
                decide_apart(m);
                return;
        case MERGE_HALF:
                if (m->error)
                        merge_unsettled(m, m->error);
                else
                        take(m, way_header);
                return;
        case MERGE_TOGETHER:
                g_clear_error(&m->error);
                g_clear_error(&m->off_error);
                take(m, way_tidy);
                return;
        case MERGE_STRANGE:
        default:
                leave(m, "its top stands on another file");
        }
}

/* There is no QEMU: the header alone says on what the top stands. QEMU's lock keeps one from being started in
 * these milliseconds; one that was started before has it, and it is not done. */
static gpointer work_set_header(gpointer data, GCancellable *c, GError **error)
{
        SnapshotMerge *m = data;

        fault_point("merge-off");
        return layer_image_set_backing(m->r->top, QEMU_IMG, m->r->file, "qcow2", error) ? m : NULL;
}

static void on_header_set(gpointer result, GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        if (!came_back(m))
                return;
        fault_point("merge-off-done");
        g_clear_error(&m->off_error);
        m->off_error = error ? g_error_copy(error) : NULL;
        take(m, way_settle);
}

static void step_set_header(SnapshotMerge *m)
{
        m->working = TRUE;
        m->env->worker->run(m->env->self, work_set_header, m, NULL, on_header_set, m);
}

static gpointer work_look(gpointer data, GCancellable *c, GError **error)
{
        SnapshotMerge *m = data;

        g_free(m->look.backing);
        return merge_files_look(m->r, &m->look, error) ? m : NULL;
}

static void on_looked(gpointer result, GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        if (!came_back(m))
                return;
        if (!error)
                decide(m);
        /* Neither QEMU nor files, and the operator has given it up. */
        else if (!m->found && g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND) &&
                 g_cancellable_is_cancelled(m->cancellable))
                leave(m, error->message);
        else
                merge_unsettled(m, error);
}

static void step_look(SnapshotMerge *m)
{
        m->working = TRUE;
        m->env->worker->run(m->env->self, work_look, m, NULL, on_looked, m);
}

static void step_settle(SnapshotMerge *m)
{
        take(m, way_settle);
}

/* ---- the end ---- */

static void step_record(SnapshotMerge *m)
{
        g_autoptr(GError) error = NULL;

        fault_point("merge-record");
        if (!catalogue_merge_record(m->catalogue, m->r, &error)) {
                merge_unsettled(m, error);
                return;
        }
        fault_point("merge-recorded");
        event_log(EVENT_INFO, "merge-done", "history and a layer are one file", "vm", m->vm, "disk",
                  m->r->device, "merge", m->r->id, NULL);
        m->result.merged++;
        files_sweep_run(m->sweep);
        take(m, way_begin);
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

        if (!came_back(m))
                return;
        if (error)
                merge_unsettled(m, error);
        else if (!catalogue_merge_remove(m->catalogue, m->r->id, &unwritten))
                merge_unsettled(m, unwritten);
        else if (m->error)
                end_with(m, m->error);
        else
                take(m, way_begin); /* it was an earlier moultd's: once more */
}

static void step_remove(SnapshotMerge *m)
{
        m->working = TRUE;
        m->env->worker->run(m->env->self, work_remove, m, NULL, on_removed, m);
}

static void step_drop_new(SnapshotMerge *m)
{
        if (m->found)
                merge_step_drop_new(m);
        else
                merge_next(m);
}

/* ---- ways ---- */

static const merge_step way_begin[] = {step_begin, step_ask_status, step_find, step_take};
static const merge_step way_make[] = {step_add_row, step_make, step_mark_compared};
static const merge_step way_settle[] = {step_ask_status, step_find, step_look};
static const merge_step way_look[] = {step_look};
static const merge_step way_put[] = {merge_step_find_nodes, merge_step_drop_new, merge_step_add_file,
                                     merge_step_add_image,  merge_step_reopen,   step_settle};
static const merge_step way_put_off[] = {step_set_header};
static const merge_step way_header[] = {merge_step_find_nodes, merge_step_change_header, step_settle};
static const merge_step way_tidy[] = {merge_step_find_old, merge_step_drop_old, step_record};
static const merge_step way_back[] = {step_drop_new, step_remove};

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
        take(m, way_begin);
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
