/* host-service/snapshot/merge_domain.c - how the top of a libvirt domain's disk gets onto the new file.
 *
 * libvirt cannot be told that a top stands on another file now; it can put a copy of a top in its place. So
 * the disk gets a new top over the new file: what the old one has is copied to it while the domain runs, then
 * the domain stands for the moment in which QEMU, the definition and the well-known path get it. As long as
 * the domain stands both tops read the same, so whichever a start would find is right. docs/snapshots.md,
 * *Merge into history*. */
#include "common/error.h"
#include "common/fault.h"
#include "host-service/catalogue/snapshots.h"
#include "host-service/snapshot/domain_files.h"
#include "host-service/snapshot/layer_files.h"
#include "host-service/snapshot/merge_files.h"
#include "host-service/snapshot/merge_private.h"

/* ---- what libvirt knows ---- */

/* One that was undefined meanwhile has no definition that could be wrong. */
static void on_domain(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        g_clear_pointer(&m->domain, json_node_unref);
        if (error && !g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND)) {
                merge_not_asked(m, error);
                return;
        }
        m->domain = result ? json_node_ref(result) : NULL;
        if (m->found)
                domain_call_by_targets(m->domain, m->found);
        merge_next(m);
}

void merge_step_ask_domain(SnapshotMerge *m)
{
        if (m->kind == &merge_by_libvirt)
                merge_ask_domain(m, VIRT_DISKS_ASK, NULL, on_domain);
        else
                merge_next(m);
}

static MergeSettle settle(const SnapshotMerge *m)
{
        return merge_settle_domain(m->r, m->next, m->found, domain_file(m->domain, "defined", m->r->device),
                                   &m->look);
}

/* ---- whether it can be done ---- */

/* A domain that was started from the well-known path: its top has had a name of its own since its birth. */
static gboolean find_own_name(const SnapshotMerge *m, MergeRecord *r, GError **error)
{
        struct snapshot_top top;
        g_autofree char *dir = g_path_get_dirname(r->path);

        if (!g_str_equal(r->top, r->path))
                return TRUE;
        if (!catalogue_snapshot_top(m->catalogue, m->vm, r->path, &top, error))
                return FALSE;
        g_free(r->top);
        r->top = g_build_filename(dir, top.name, NULL);
        snapshot_top_clear(&top);
        return TRUE;
}

static gboolean refuse(const MergeRecord *r, const char *why, GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "the history of the disk %s is not merged: %s. Nothing was changed", r->device, why);
        return FALSE;
}

static gboolean may_run(const SnapshotMerge *m, const MergeRecord *r, GError **error)
{
        gboolean ready;

        if (!domain_is(m->domain, "defined"))
                return refuse(r, "libvirt keeps no definition of the domain (it is transient)", error);
        if (!domain_file(m->domain, "live", r->device))
                return refuse(r, "it is another file for QEMU than for libvirt", error);
        return !domain_copy(m->domain, r->device, &ready) ||
               refuse(r, "somebody else copies it ('virsh blockjob' tells where to)", error);
}

gboolean merge_domain_plan(const SnapshotMerge *m, MergeRecord *r, GError **error)
{
        const char *defined = domain_file(m->domain, "defined", r->device);

        if (!find_own_name(m, r, error) || (m->found && !may_run(m, r, error)))
                return FALSE;
        if (!m->found && domain_is_saved(m->domain))
                return refuse(
                        r,
                        "the domain's next start goes on from a managed save, in which the files are named. "
                        "Start it, or give that state up ('virsh managedsave-remove')",
                        error);
        if ((domain_is(m->domain, "defined") && !defined) ||
            (defined && !domain_file_is_of(r->path, defined)))
                return refuse(r, "the domain's definition names another file: somebody else has changed it",
                              error);
        return TRUE;
}

/* ---- small steps ---- */

static void on_done(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        if (error)
                merge_settle_again(m, error);
        else
                merge_next(m);
}

static gboolean set_state(SnapshotMerge *m, MergeState state)
{
        g_autoptr(GError) error = NULL;

        if (catalogue_merge_set_state(m->catalogue, m->r->id, state, &error)) {
                m->r->state = state;
                return TRUE;
        }
        merge_unsettled(m, error);
        return FALSE;
}

static void on_worked(gpointer result, GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        if (!merge_came_back(m))
                return;
        if (error)
                merge_settle_again(m, error);
        else
                merge_next(m);
}

static void on_removed(gpointer result, GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        if (!merge_came_back(m))
                return;
        if (error)
                merge_unsettled(m, error);
        else
                merge_next(m);
}

/* ---- the copy ---- */

static JsonObject *copy_of(const SnapshotMerge *m)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "target", m->r->device);
        json_object_set_string_member(o, "to", m->next);
        return o;
}

/* The domain, or the disk in it, is not there any more: no copy is either. */
static void on_dropped(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        if (error && !g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                merge_unsettled(m, error); /* again, later */
        else
                merge_next(m);
}

/* One that an earlier moultd has begun, or that is not wanted any more. */
static void step_drop_copy(SnapshotMerge *m)
{
        if (m->found)
                merge_ask_domain(m, VIRT_DISKS_DROP, copy_of(m), on_dropped);
        else
                merge_next(m);
}

static LayerFiles *open_files(const SnapshotMerge *m, GError **error)
{
        const struct vm_disk *d = m->found ? merge_settle_disk(m->r, m->found) : NULL;
        g_autofree char *top = g_path_get_basename(m->r->top), *next = g_path_get_basename(m->next);

        return layer_files_open(m->r->path, top, next, "qcow2", d ? d->size_bytes : 0, m->env->disk_helper,
                                error);
}

static gpointer work_make_next(gpointer data, GCancellable *c, GError **error)
{
        SnapshotMerge *m = data;
        g_autoptr(LayerFiles) files = NULL;

        fault_point("merge-next");
        if (!merge_files_remove(m->next, error) || !(files = open_files(m, error)))
                return NULL;
        return layer_files_make_over(files, m->r->file, "qcow2", QEMU_IMG, c, error) ? m : NULL;
}

static void step_make_next(SnapshotMerge *m)
{
        merge_run(m, work_make_next, /* may_cancel= */ TRUE, on_worked);
}

/* What lies below the new file is what lies below the lower one. */
static JsonArray *below_next(const SnapshotMerge *m)
{
        const struct vm_disk *d = merge_settle_disk(m->r, m->found);
        JsonArray *below = json_array_new();

        for (guint i = 1; i < d->below->len; i++) {
                const struct vm_image *image = d->below->pdata[i];
                JsonObject *o = json_object_new();

                json_object_set_string_member(o, "file", i == 1 ? m->r->file : image->file);
                json_object_set_string_member(o, "format", i == 1 ? "qcow2" : image->format);
                json_array_add_object_element(below, o);
        }
        return below;
}

static void step_copy(SnapshotMerge *m)
{
        JsonObject *copy = copy_of(m);

        json_object_set_array_member(copy, "below", below_next(m));
        fault_point("merge-next-copy");
        merge_ask_domain(m, VIRT_DISKS_COPY, copy, on_done);
}

static void step_await(SnapshotMerge *m);

static void on_awaited(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotMerge *m = user;
        const char *to;
        gboolean ready;
        g_autoptr(GError) why = NULL;

        if (error) {
                merge_settle_again(m, error);
                return;
        }
        to = domain_copy(result, m->r->device, &ready);
        if (g_cancellable_set_error_if_cancelled(m->cancellable, &why)) {
                merge_settle_again(m, why);
        } else if (g_strcmp0(to, m->next) != 0) {
                why = g_error_new(MOULT_ERROR, MOULT_ERROR_IO,
                                  "copying the disk %s to %s has ended: libvirt's log says why", m->r->device,
                                  m->next);
                merge_settle_again(m, why);
        } else if (ready) {
                merge_next(m);
        } else {
                step_await(m);
        }
}

static void step_await(SnapshotMerge *m)
{
        merge_ask_domain(m, VIRT_DISKS_AWAIT, NULL, on_awaited);
}

/* ---- the moment ---- */

static void step_stop(SnapshotMerge *m)
{
        fault_point("merge-next-ready");
        if (m->status != HYPERVISOR_RUNNING) { /* an operator has stopped it, and it stays so */
                merge_next(m);
                return;
        }
        if (!set_state(m, MERGE_STOPPED))
                return;
        fault_point("merge-stop");
        merge_ask_domain(m, VIRT_STOP, NULL, on_done);
}

static void step_pivot(SnapshotMerge *m)
{
        fault_point("merge-pivot");
        merge_ask_domain(m, VIRT_DISKS_PIVOT, copy_of(m), on_done);
}

static void on_gone_on(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        if (error)
                merge_unsettled(m, error);
        else if (set_state(m, MERGE_COMPARED))
                merge_next(m);
}

/* What was started anew meanwhile was not stopped by us, and what is off is not either. */
static void step_go_on(SnapshotMerge *m)
{
        if (m->r->state != MERGE_STOPPED) {
                merge_next(m);
                return;
        }
        fault_point("merge-go-on");
        if (m->found && m->status == HYPERVISOR_STOPPED)
                merge_ask_domain(m, VIRT_GO_ON, NULL, on_gone_on);
        else
                on_gone_on(NULL, NULL, m);
}

/* ---- from what it is started ---- */

static void on_defined(JsonNode *result, const GError *error, gpointer user)
{
        if (error && g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                on_done(NULL, NULL, user); /* it was undefined */
        else
                on_done(result, error, user);
}

static void define(SnapshotMerge *m, const char *to)
{
        const char *const from[] = {m->r->path, m->r->top, m->next, NULL};
        JsonObject *changes;

        if (!domain_is(m->domain, "defined")) {
                merge_next(m);
                return;
        }
        changes = json_object_new();
        domain_define(changes, m->r->device, to, "qcow2", from);
        merge_ask_domain(m, VIRT_DISKS_DEFINE, changes, on_defined);
}

/* libvirt has written it with the copy's files below it, if it was what it knew. */
static void step_define_next(SnapshotMerge *m)
{
        fault_point("merge-define");
        define(m, m->next);
}

/* libvirt may have written there on what its top stands, which is about to change: the headers tell. */
static void step_define_off(SnapshotMerge *m)
{
        const char *defined = domain_file(m->domain, "defined", m->r->device);
        g_autoptr(GError) saved = NULL;

        if (domain_is_saved(m->domain)) {
                saved = g_error_new(
                        MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                        "the domain was saved meanwhile ('virsh managedsave'), with the names of the disk "
                        "%s's files: its history is not merged",
                        m->r->device);
                merge_settle_again(m, saved);
                return;
        }
        define(m, defined ? defined : m->r->top);
}

/* ---- files ---- */

static gpointer work_place(gpointer data, GCancellable *c, GError **error)
{
        SnapshotMerge *m = data;
        g_autoptr(LayerFiles) files = NULL;

        fault_point("merge-place");
        files = open_files(m, error);
        return files && layer_files_place_next(files, error) ? m : NULL;
}

static void step_place(SnapshotMerge *m)
{
        merge_run(m, work_place, /* may_cancel= */ FALSE, on_worked);
}

static gpointer work_remove_top(gpointer data, GCancellable *c, GError **error)
{
        SnapshotMerge *m = data;

        fault_point("merge-remove-top");
        return merge_files_remove(m->r->top, error) ? m : NULL;
}

/* The old one: all names are the new one's. */
static void step_remove_top(SnapshotMerge *m)
{
        if (m->look.is_next && !m->look.is_top)
                merge_run(m, work_remove_top, /* may_cancel= */ FALSE, on_removed);
        else
                merge_next(m);
}

static gpointer work_remove_next(gpointer data, GCancellable *c, GError **error)
{
        SnapshotMerge *m = data;

        return merge_files_remove(m->next, error) ? m : NULL;
}

static void step_remove_next(SnapshotMerge *m)
{
        merge_run(m, work_remove_next, /* may_cancel= */ FALSE, on_removed);
}

static void step_define_last(SnapshotMerge *m)
{
        if (m->look.is_next)
                define(m, m->next);
        else
                merge_next(m);
}

/* ---- ways ---- */

static const merge_step way_put[] = {step_drop_copy, step_go_on, step_make_next,
                                     step_copy,      step_await, merge_step_ask_status,
                                     step_stop,      step_pivot, merge_step_settle};
static const merge_step way_put_off[] = {step_go_on, step_remove_next, step_define_off,
                                         merge_step_set_header};
static const merge_step way_half[] = {step_define_next, step_place, step_go_on, merge_step_settle};
static const merge_step way_tidy[] = {step_define_last, step_go_on, step_remove_top, merge_step_record};
static const merge_step way_back[] = {step_drop_copy, step_go_on, step_remove_next, merge_step_remove};
static const merge_step way_go_on[] = {step_go_on, merge_step_settle};

const struct merge_kind merge_by_libvirt = {.settle = settle,
                                            .put = way_put,
                                            .put_off = way_put_off,
                                            .half = way_half,
                                            .tidy = way_tidy,
                                            .back = way_back,
                                            .go_on = way_go_on};
