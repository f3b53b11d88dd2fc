/* host-service/snapshot/create_off.c - a snapshot of a VM that is off: the tops of its disks are copied, and
 * go on being its tops. docs/snapshots.md, *Create, while the VM is off*.
 *
 * Nothing of the VM's is changed, so whatever fails, and a moultd that was killed, leave a file that nobody
 * has. A VM that is started meanwhile is not kept from it: the copies are thrown away then. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/catalogue/layers.h"
#include "host-service/image/qcow2_header.h"
#include "host-service/snapshot/create_private.h"
#include "host-service/snapshot/disk_choice.h"
#include "host-service/snapshot/known_disks.h"
#include "host-service/snapshot/layer_image.h"
#include "host-service/snapshot/layer_name.h"

#define NOW_MAX 16 /* looks at a file that was changed just now */

gboolean create_is_off(const SnapshotRecord *r)
{
        const struct snapshot_disk *d = r->disks->len > 0 ? r->disks->pdata[0] : NULL;
        g_autofree char *id = d ? layer_name_id(d->layer) : NULL;

        return id && g_str_has_prefix(id, r->id); /* else the new top has it */
}

static void on_done(gpointer result, GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (!create_came_back(s))
                return;
        if (error)
                create_fail(s, error);
        else
                create_next(s);
}

/* ---- which disks ---- */

/* A path that no snapshot was taken of yet is one more disk. */
static char **add_wanted(SnapshotCreate *s, char **wanted)
{
        char **all = wanted ? g_new0(char *, g_strv_length(wanted) + 1) : NULL;

        for (guint i = 0; wanted && wanted[i]; i++) {
                gboolean is_path = g_path_is_absolute(wanted[i]);

                all[i] = is_path ? g_canonicalize_filename(wanted[i], NULL) : g_strdup(wanted[i]);
                if (is_path && !known_disks_find(s->found, all[i]))
                        known_disks_add(s->found, all[i]);
        }
        return all;
}

static gboolean find(SnapshotCreate *s, GError **error)
{
        g_auto(GStrv) wanted = s->options.disks;

        s->options.disks = NULL;
        if (s->options.require_quiesce) {
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                        "VM \"%s\" is off: there is nobody to quiesce, and how its guest had ended is not "
                        "known. Without --require-quiesce a snapshot is taken of the disks as they are",
                        s->r->vm);
                return FALSE;
        }
        s->found = known_disks(s->catalogue, s->r->vm, error);
        if (!s->found)
                return FALSE;
        s->options.disks = add_wanted(s, wanted);
        if (s->found->len > 0)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                    "VM \"%s\" is off, or was added without the QMP socket of its QEMU, and no snapshot of "
                    "it was ever taken: which disks it has is not known. "
                    "Start it for the first one, or name each disk that stands on no other image: "
                    "--disk /PATH/TO/DISK.qcow2",
                    s->r->vm);
        return FALSE;
}

void step_off_find(SnapshotCreate *s)
{
        g_autoptr(GError) error = NULL;

        s->off = TRUE;
        s->r->running = FALSE;
        create_note_why(s, "the VM was off, and it is not known how its guest had ended");
        if (find(s, &error))
                create_next(s);
        else
                create_fail(s, error);
}

/* What a header says is not followed: a guest may have written it, on a disk that is a raw one in truth. */
static const char *unknown_refusal(const char *path, GError **error)
{
        scoped_fd int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        guint8 bytes[QCOW2_HEADER_BYTES];
        struct qcow2_header h;
        ssize_t n = fd >= 0 ? pread(fd, bytes, sizeof bytes, 0) : -1;
        g_autofree char *name = g_path_get_basename(path), *of = layer_name_base(name);

        if (n < 0) {
                moult_error_errno(error, errno, "reading the disk %s", path);
                return NULL;
        }
        if (of)
                return "is a layer, and no disk's path";
        if (!qcow2_header_is(bytes, (gsize)n))
                return "is no qcow2 image";
        if (qcow2_header_parse(bytes, (gsize)n, &h))
                return qcow2_header_parse(bytes, (gsize)n, &h);
        return h.backing_offset ? "stands on another image" : qcow2_header_refusal(&h, FALSE);
}

static gpointer work_measure(gpointer data, GCancellable *c, GError **error)
{
        SnapshotCreate *s = data;

        for (guint i = 0; i < s->found->len; i++) {
                struct vm_disk *d = s->found->pdata[i];
                g_autoptr(GError) why = NULL;
                const char *refusal = g_path_is_absolute(d->device) && g_str_equal(d->device, d->file)
                                              ? unknown_refusal(d->file, &why)
                                              : NULL;

                if (refusal)
                        g_set_error(
                                &why, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                "%s %s: its first snapshot can be taken while its VM runs only, since QEMU "
                                "knows then what it is",
                                d->file, refusal);
                if (why) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return NULL;
                }
                d->size_bytes = layer_image_size(d->file, d->size_bytes);
        }
        return s;
}

void step_off_measure(SnapshotCreate *s)
{
        s->working = TRUE;
        s->env->worker->run(s->env->self, work_measure, s, s->cancellable, on_done, s);
}

/* The layer that the top stands on. */
static gboolean note_below(SnapshotCreate *s, struct snapshot_disk *d, GError **error)
{
        g_autoptr(GError) why = NULL;
        g_autoptr(LayerRecord) on = NULL;

        for (guint i = 0; i < s->found->len; i++) {
                const struct vm_disk *v = s->found->pdata[i];

                if (!g_str_equal(v->device, d->device))
                        continue;
                on = v->below->len > 0
                             ? catalogue_layer_of_file(s->catalogue,
                                                       ((const struct vm_image *)v->below->pdata[0])->file,
                                                       &why)
                             : NULL;
                if (why) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return FALSE;
                }
                d->next_on = g_strdup(on ? on->id : "");
                return TRUE;
        }
        g_assert_not_reached(); /* it was chosen from there */
}

void step_off_choose(SnapshotCreate *s)
{
        g_autoptr(GError) error = NULL;
        gboolean ok = disk_choice_make(s->r, s->found, (const char *const *)s->options.disks, s->first_id,
                                       DISK_COPIED, &error);

        for (guint i = 0; ok && i < s->r->disks->len; i++)
                ok = note_below(s, s->r->disks->pdata[i], &error);
        if (ok) {
                create_make_list(s);
                create_next(s);
        } else {
                create_fail(s, error);
        }
}

/* ---- the copies ---- */

static gboolean open_files(SnapshotCreate *s, struct making *m, GError **error)
{
        const struct snapshot_disk *d = m->disk;

        if (!m->files)
                m->files = layer_files_open(d->path, d->next, d->layer, d->format, d->size_bytes,
                                            s->env->disk_helper, error);
        return m->files != NULL;
}

static gboolean is_free(const struct making *m, GError **error)
{
        if (m->look.disk_use == IMAGE_FREE && m->look.well_known == WELL_KNOWN_TOP)
                return TRUE;
        if (m->look.well_known != WELL_KNOWN_TOP)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s is not the disk that the last snapshot left: somebody else has changed it. "
                            "Nothing was changed",
                            m->disk->path);
        else
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "%s is in use, and no QEMU's monitor answers for it: shut down what has it open. "
                            "Nothing was changed",
                            m->disk->path);
        return FALSE;
}

/* The clock of file systems goes in steps: a change in the step in which it was looked at would not be seen.
 */
static gboolean is_settled(gint64 changed_ns, gulong *ret_step_us)
{
        struct timespec now = {0}, step = {0};
        gint64 since;

        clock_gettime(CLOCK_REALTIME_COARSE, &now);
        clock_getres(CLOCK_REALTIME_COARSE, &step);
        since = (gint64)now.tv_sec * 1000000000 + now.tv_nsec - changed_ns;
        *ret_step_us = (gulong)(step.tv_nsec / 1000);
        return since < 0 ||
               since > 2 * step.tv_nsec; /* before: another machine's clock, or it was set back */
}

/* It is known from an earlier snapshot. */
static gboolean is_there(SnapshotCreate *s, struct making *m, GError **error)
{
        g_autoptr(GError) why = NULL;

        if (open_files(s, m, &why))
                return TRUE;
        if (g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                        "%s. If the VM does not have the disk %s any more, name those that it has: --disk",
                        why->message, m->disk->device);
        else
                g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
}

static gboolean begin_one(SnapshotCreate *s, struct making *m, GError **error)
{
        gulong step_us = 0;

        if (!is_there(s, m, error) || !layer_files_look(m->files, &m->look, error) || !is_free(m, error))
                return FALSE;
        if (!m->look.has_top && !m->disk->is_first) {
                m->look.well_known = WELL_KNOWN_OTHER;
                return is_free(m, error);
        }
        if (!m->look.has_top && !layer_files_name_top(m->files, error))
                return FALSE;
        for (guint i = 0; i < NOW_MAX; i++) {
                if (!layer_files_look(m->files, &m->look, error) || !is_free(m, error))
                        return FALSE;
                if (is_settled(m->look.changed_ns, &step_us))
                        break;
                g_usleep(step_us);
        }
        m->changed_ns = m->look.changed_ns;
        return TRUE;
}

static gboolean find_below(SnapshotCreate *s, struct making *m, GError **error)
{
        g_autoptr(LayerRecord) on = NULL;

        g_clear_pointer(&m->base, g_free);
        if (g_strcmp0(m->disk->next_on, "") == 0)
                return TRUE;
        on = catalogue_layer_get(s->catalogue, m->disk->next_on, error);
        m->base = on ? g_strdup(on->file) : NULL;
        if (on && !on->file)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "the file of layer %s, which %s stands on, is not on this host any more", on->id,
                            m->disk->path);
        return m->base != NULL;
}

void step_off_begin(SnapshotCreate *s)
{
        g_autoptr(GError) error = NULL;

        fault_point("snapshot-off");
        for (guint i = 0; !error && i < s->r->disks->len; i++)
                find_below(s, &s->disks[i], &error);
        if (error)
                create_fail(s, error);
        else
                create_run_files(s, begin_one, on_done, s->cancellable);
}

static gboolean copy_one(SnapshotCreate *s, struct making *m, GError **error)
{
        return layer_files_copy_top(m->files, m->base, s->cancellable, error);
}

void step_off_copy(SnapshotCreate *s)
{
        create_run_files(s, copy_one, on_done, s->cancellable);
}

/* None of the disks was changed from before the first was copied until after the last one: the copies are of
 * one instant. */
static gboolean check_one(SnapshotCreate *s, struct making *m, GError **error)
{
        if (!layer_files_look(m->files, &m->look, error))
                return FALSE;
        if (m->look.disk_use == IMAGE_FREE && m->look.well_known == WELL_KNOWN_TOP && m->look.has_next &&
            m->look.changed_ns == m->changed_ns)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                    "%s was used or changed while it was copied: the VM was started. It goes on as if "
                    "nothing had "
                    "happened, and there is no snapshot: ask again",
                    m->disk->path);
        return FALSE;
}

static void on_checked(gpointer result, GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (!create_came_back(s))
                return;
        if (error) {
                create_fail(s, error);
                return;
        }
        s->switched = TRUE; /* it has happened: nobody stops it any more */
        create_next(s);
}

void step_off_check(SnapshotCreate *s)
{
        fault_point("snapshot-copied");
        create_run_files(s, check_one, on_checked, NULL);
}

/* ---- after a restart ---- */

/* How far it came makes no difference: the copies are made anew, unless the VM was started. */
void step_off_again(SnapshotCreate *s)
{
        g_autoptr(GError) error = NULL;

        if (s->status == HYPERVISOR_GONE) {
                create_next(s);
                return;
        }
        error = g_error_new(
                MOULT_ERROR, MOULT_ERROR_BUSY,
                "VM \"%s\" was started, and moultd was restarted, before its disks were copied: there "
                "is no snapshot. Ask again",
                s->r->vm);
        create_fail(s, error);
}

/* ---- the way back ---- */

static gboolean back_one(SnapshotCreate *s, struct making *m, GError **error)
{
        if (!m->files && !s->resumed) /* it never came to it: the disk may not be there */
                return TRUE;
        if (!open_files(s, m, error) || !layer_files_remove_next(m->files, error) ||
            !layer_files_look(m->files, &m->look, error))
                return FALSE;
        return !m->disk->is_first || m->keeps_name || !m->look.has_top ||
               m->look.well_known != WELL_KNOWN_TOP || layer_files_unname_top(m->files, error);
}

static void on_back(gpointer result, GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (!create_came_back(s))
                return;
        /* Without a directory there is nothing in it; the operator has given it up. Else it is looked at
         * again. */
        if (error && !(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND) &&
                       g_cancellable_is_cancelled(s->cancellable)))
                create_end_with(s, error);
        else
                create_next(s);
}

void step_off_back(SnapshotCreate *s)
{
        for (guint d = 0; s->disks && d < s->r->disks->len; d++)
                s->disks[d].keeps_name = catalogue_snapshot_made(s->catalogue, s->disks[d].disk->next);
        if (s->disks)
                create_run_files(s, back_one, on_back, NULL);
        else
                create_next(s);
}
