/* host-service/snapshot/create_files.c - what a snapshot does to files: made, placed, taken back. */
#include "host-service/snapshot/create_private.h"

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"

#define QEMU_IMG "qemu-img"

static gpointer work_all(gpointer data, GCancellable *c, GError **error)
{
        SnapshotCreate *s = data;

        for (guint i = 0; i < s->r->disks->len; i++)
                if (!s->work(s, &s->disks[i], error))
                        return NULL;
        return s;
}

gboolean create_came_back(SnapshotCreate *s)
{
        s->working = FALSE;
        if (s->gone)
                create_really_free(s);
        else
                return TRUE;
        return FALSE;
}

static void on_files(gpointer result, GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (!create_came_back(s))
                return;
        if (error)
                create_fail(s, error);
        else
                create_next(s);
}

void create_run_files(SnapshotCreate *s, gboolean (*work)(SnapshotCreate *, struct making *, GError **),
                      host_work_done done, GCancellable *c)
{
        s->work = work;
        s->working = TRUE;
        s->env->worker->run(s->env->self, work_all, s, c, done, s);
}

static gboolean open_files(SnapshotCreate *s, struct making *m, GError **error)
{
        const struct snapshot_disk *d = m->disk;

        if (!m->files)
                m->files = layer_files_open(d->path, d->layer, d->next, d->format, d->size_bytes,
                                            s->env->disk_helper, error);
        return m->files != NULL;
}

/* The file at the well-known path is the one that QEMU writes to, or else nothing here would be right. */
static gboolean is_qemus(const struct making *m, GError **error)
{
        if (m->look.disk_use == IMAGE_WRITTEN)
                return TRUE;
        g_set_error(
                error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                "no QEMU holds its lock on %s: the file was replaced while the VM runs, or this file system "
                "has no locks. Nothing was changed",
                m->disk->path);
        return FALSE;
}

gboolean create_top_is_right(SnapshotCreate *s, struct making *m, GError **error)
{
        if (!open_files(s, m, error) || !layer_files_look(m->files, &m->look, error) || !is_qemus(m, error))
                return FALSE;
        if (m->look.well_known != WELL_KNOWN_TOP || (!m->disk->is_first && !m->look.has_top)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s is not the file %s that QEMU has open: somebody else has changed the chain. "
                            "Nothing was changed",
                            m->disk->path, m->disk->layer);
                return FALSE;
        }
        return TRUE;
}

static gboolean make_one(SnapshotCreate *s, struct making *m, GError **error)
{
        return create_top_is_right(s, m, error) && layer_files_name_top(m->files, error) &&
               layer_files_make_next(m->files, QEMU_IMG, s->cancellable, error);
}

void step_make_files(SnapshotCreate *s)
{
        fault_point("snapshot-make");
        create_run_files(s, make_one, on_files, s->cancellable);
}

static gboolean place_one(SnapshotCreate *s, struct making *m, GError **error)
{
        return layer_files_place_next(m->files, error);
}

void step_place_before(SnapshotCreate *s)
{
        fault_point("snapshot-place");
        if (create_has_first(s)) {
                create_next(s);
                return;
        }
        s->placing = TRUE;
        create_run_files(s, place_one, on_files, NULL);
}

/* Whoever writes to it was started from it. */
static gboolean is_unused(const struct making *m, const char *name, enum image_lock use, GError **error)
{
        g_autofree char *path = create_file_beside(m->disk, name);

        if (use != IMAGE_WRITTEN)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY, "a QEMU writes to %s: it stays", path);
        return FALSE;
}

/* A QEMU that writes to the old top has not the new one: the VM has ended since the switch, and was started
 * anew from the path. What it writes would be in a layer that is sealed. */
static gboolean place_switched(SnapshotCreate *s, struct making *m, GError **error)
{
        g_autofree char *name = g_path_get_basename(m->disk->path);

        return layer_files_look(m->files, &m->look, error) &&
               (m->look.well_known == WELL_KNOWN_NEXT || is_unused(m, name, m->look.disk_use, error)) &&
               layer_files_place_next(m->files, error);
}

/* Switched, and the path cannot be given to the new top: the VM, if it is stopped, stays so, for what it
 * would write could be lost. The next start of moultd tries again. */
static void on_placed_after(gpointer result, GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (!create_came_back(s))
                return;
        if (!error) {
                create_next(s);
                return;
        }
        event_log(EVENT_ERROR, "snapshot-not-placed", error->message, "vm", s->r->vm, "snapshot", s->r->id,
                  NULL);
        create_end_with(s, error);
}

void step_place_after(SnapshotCreate *s)
{
        fault_point("snapshot-switched");
        create_run_files(s, place_switched, on_placed_after, NULL);
}

static gboolean next_is_unused(const struct making *m, GError **error)
{
        return is_unused(m, m->disk->next, m->look.next_use, error);
}

static gboolean back_one(SnapshotCreate *s, struct making *m, GError **error)
{
        if (m->settle == SETTLE_FOREIGN || !m->files)
                return TRUE;
        if (s->settling && m->settle == SETTLE_TAKEN) /* of another that went back */
                return layer_files_place_next(m->files, error);
        if (!layer_files_look(m->files, &m->look, error) || !next_is_unused(m, error))
                return FALSE;
        if (m->look.well_known == WELL_KNOWN_OTHER) /* nothing but what we have made ourselves */
                return layer_files_remove_next(m->files, error);
        return (m->look.well_known != WELL_KNOWN_NEXT || layer_files_place_top(m->files, error)) &&
               layer_files_remove_next(m->files, error) &&
               (!m->disk->is_first || m->keeps_name || layer_files_unname_top(m->files, error));
}

static void on_back(gpointer result, GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (!create_came_back(s))
                return;
        if (error)
                create_end_with(s, error); /* looked at again */
        else
                create_next(s);
}

void step_back_files(SnapshotCreate *s)
{
        for (guint d = 0; s->disks && d < s->r->disks->len; d++)
                s->disks[d].keeps_name =
                        s->renamed || catalogue_snapshot_made(s->catalogue, s->disks[d].disk->layer);
        if (s->disks)
                create_run_files(s, back_one, on_back, NULL);
        else
                create_next(s);
}

gboolean create_look_one(SnapshotCreate *s, struct making *m, GError **error)
{
        g_autofree char *name = g_path_get_basename(m->disk->path);

        if (!open_files(s, m, error) || !layer_files_look(m->files, &m->look, error))
                return FALSE;
        /* Without a monitor there may be a QEMU all the same. */
        return s->found || (is_unused(m, name, m->look.disk_use, error) && next_is_unused(m, error));
}
