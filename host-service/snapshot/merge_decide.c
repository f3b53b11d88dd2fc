/* host-service/snapshot/merge_decide.c - how far a merge has come, by QEMU and by the files, and which way it
 * goes from there. */
#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/snapshot/layer_image.h"
#include "host-service/snapshot/merge_files.h"
#include "host-service/snapshot/merge_private.h"

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
        merge_end_with(m, error);
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
        merge_take(m, m->error ? m->kind->back : m->found ? m->kind->put : m->kind->put_off);
}

/* What was to put it there has said no, and it is there: on, at once. Anything else is tried again later. */
static void decide_half(SnapshotMerge *m)
{
        if (m->put)
                g_clear_error(&m->error);
        m->put = FALSE;
        if (m->error)
                merge_unsettled(m, m->error);
        else
                merge_take(m, m->kind->half);
}

static void decide(SnapshotMerge *m)
{
        MergeSettle settle = m->kind->settle(m);
        g_autoptr(GError) busy = NULL;

        if (!m->found && (m->look.path_use != IMAGE_FREE || m->look.next_use != IMAGE_FREE)) {
                busy = g_error_new(MOULT_ERROR, MOULT_ERROR_BUSY, "a QEMU that cannot be asked has %s open",
                                   m->r->path);
                merge_unsettled(m, busy);
                return;
        }
        /* It may have ended since it was asked. */
        if (m->found && m->look.path_use != IMAGE_WRITTEN && m->look.next_use != IMAGE_WRITTEN &&
            settle != MERGE_STRANGE) {
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
                decide_half(m);
                return;
        case MERGE_TOGETHER:
                g_clear_error(&m->error);
                g_clear_error(&m->off_error);
                merge_take(m, m->kind->tidy);
                return;
        case MERGE_STRANGE:
        default:
                if (m->r->state == MERGE_STOPPED)
                        merge_take(m, m->kind->go_on);
                else
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

        if (!merge_came_back(m))
                return;
        fault_point("merge-off-done");
        g_clear_error(&m->off_error);
        m->off_error = error ? g_error_copy(error) : NULL;
        merge_step_settle(m);
}

void merge_step_set_header(SnapshotMerge *m)
{
        merge_run(m, work_set_header, /* may_cancel= */ FALSE, on_header_set);
}

static gpointer work_look(gpointer data, GCancellable *c, GError **error)
{
        SnapshotMerge *m = data;

        g_free(m->look.backing);
        return merge_files_look(m->r, m->next, &m->look, error) ? m : NULL;
}

static void on_looked(gpointer result, GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        if (!merge_came_back(m))
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

void merge_step_look(SnapshotMerge *m)
{
        merge_run(m, work_look, /* may_cancel= */ FALSE, on_looked);
}
