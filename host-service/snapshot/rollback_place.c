/* host-service/snapshot/rollback_place.c - what is there, and whose the disks' paths become. */
#include "common/error.h"
#include "common/fault.h"
#include "host-service/snapshot/rollback_private.h"

/* A QEMU that writes to the old top was started from the path since all was looked at: it goes on there, and
 * the path stays its. */
gboolean rollback_place_one(struct rollback *t, struct way *w, GError **error)
{
        fault_point("rollback-place");
        if (!layer_files_look(w->files, &w->look, error))
                return FALSE;
        if (w->look.well_known == WELL_KNOWN_NEXT || w->look.disk_use != IMAGE_WRITTEN)
                return layer_files_place_next(w->files, error);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                    "VM \"%s\" was started meanwhile, and writes to %s: it goes on there", t->vm,
                    w->to->path);
        return FALSE;
}

static gboolean look_one(struct rollback *t, struct way *w, GError **error)
{
        g_clear_pointer(&w->files, layer_files_free);
        w->files = layer_files_open(w->to->path, w->before->layer, w->before->next, "qcow2",
                                    w->before->size_bytes, t->owner->env->disk_helper, error);
        return w->files && layer_files_look(w->files, &w->look, error);
}

static GError *refusal(const struct way *w)
{
        return g_error_new(
                MOULT_ERROR, MOULT_ERROR_REFUSED,
                w->look.disk_use != IMAGE_FREE
                        ? "%s is in use by a QEMU: shut the VM down first. Nothing was changed"
                        : "%s is not the disk that the last snapshot left: somebody else has changed "
                          "it. Nothing was changed",
                w->to->path);
}

static GError *domains_refusal(const struct rollback *t)
{
        return g_error_new(MOULT_ERROR, MOULT_ERROR_REFUSED,
                           "the next start of VM \"%s\" goes on from a managed save, whose memory belongs to "
                           "the disks as they are: start it, or remove that ('virsh managedsave-remove'). "
                           "Nothing was changed",
                           t->vm);
}

/* The paths that are not given away yet may be. NULL: all of them. Owned by the caller. */
static GError *in_the_way(const struct rollback *t)
{
        for (guint i = 0; i < t->to->disks->len; i++) {
                const struct way *w = &t->ways[i];

                if (w->look.well_known != WELL_KNOWN_NEXT &&
                    (w->look.disk_use != IMAGE_FREE || !w->look.has_top ||
                     w->look.well_known != WELL_KNOWN_TOP))
                        return refusal(w);
        }
        return NULL;
}

/* The same of a VM that QEMU has open. */
static GError *foreign(struct rollback *t)
{
        GError *why = NULL;

        for (guint i = 0; i < t->to->disks->len; i++) {
                struct way *w = &t->ways[i];
                const struct vm_disk *d = rollback_disk_of(t, w);

                w->live = settle_disk(w->before, t->found, &w->look);
                g_free(w->old);
                w->old = d ? g_strdup(d->node) : NULL;
                if (w->live == SETTLE_BACK && !w->look.has_top)
                        w->live = SETTLE_FOREIGN;
                if (!why && w->live == SETTLE_FOREIGN)
                        why = g_error_new(
                                MOULT_ERROR, MOULT_ERROR_REFUSED,
                                "what QEMU has open as the disk %s is not what the last snapshot left: "
                                "somebody else has changed it. Nothing more is changed",
                                w->to->path);
                if (!why && w->look.disk_use != IMAGE_WRITTEN && w->look.next_use != IMAGE_WRITTEN)
                        why = g_error_new(MOULT_ERROR, MOULT_ERROR_REFUSED,
                                          "no QEMU holds its lock on %s: the file was replaced while the VM "
                                          "runs, or this file system has no locks. Nothing more is changed",
                                          w->to->path);
        }
        return why;
}

static guint count_placed(const struct rollback *t)
{
        guint n = 0;

        for (guint i = 0; i < t->to->disks->len; i++)
                n += t->ways[i].look.well_known == WELL_KNOWN_NEXT;
        return n;
}

void rollback_place_failed(struct rollback *t, const GError *error)
{
        g_set_error_literal(&t->place_error, error->domain, error->code, error->message);
        rollback_look(t);
}

static guint count_defined(const struct rollback *t)
{
        guint n = 0;

        for (guint i = 0; i < t->to->disks->len; i++)
                n += t->ways[i].is_defined;
        return n;
}

static void place(struct rollback *t)
{
        rollback_run(t, rollback_place_one, rollback_record, NULL);
}

static void looked_live(struct rollback *t)
{
        g_autoptr(GError) why = foreign(t);

        rollback_live(t, why);
}

static void looked(struct rollback *t)
{
        guint placed = count_placed(t), begun = MAX(placed, count_defined(t));
        g_autoptr(GError) obstacle = NULL;

        if (t->found) {
                looked_live(t);
                return;
        }
        obstacle = in_the_way(t);
        t->unsure = FALSE;
        t->placing = begun > 0;
        if (placed == t->to->disks->len && (!t->is_domain || count_defined(t) == placed)) {
                rollback_record(t);
                return;
        }
        if (!obstacle && begun == 0 && t->saved)
                obstacle = domains_refusal(t);
        if (!obstacle && begun == 0)
                obstacle = t->back ? g_steal_pointer(&t->back) : g_steal_pointer(&t->place_error);
        if (!obstacle && begun == 0)
                g_cancellable_set_error_if_cancelled(t->job.cancellable, &obstacle);
        g_clear_error(&t->place_error);
        if (obstacle) {
                rollback_fail(t, obstacle);
        } else if (begun > 0 || t->made) {
                t->placing = TRUE;
                rollback_define(t, place);
        } else {
                t->k = 0;
                rollback_fetch(t);
        }
}

static void look_at_files(struct rollback *t)
{
        rollback_run(t, look_one, looked, NULL);
}

/* Domains that run are not switched: libvirt would not know of it. */
static void look_at_qemu(struct rollback *t)
{
        if (t->restart && !t->is_domain)
                rollback_ask(t, look_at_files);
        else
                look_at_files(t);
}

void rollback_look(struct rollback *t)
{
        rollback_ask_domain(t, look_at_qemu);
}
