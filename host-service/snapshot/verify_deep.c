/* host-service/snapshot/verify_deep.c - restore points rebuilt from the store into a scratch file, one after
 * the other, and compared with the files here: what the guest would see, all of it. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "host-service/snapshot/verify_private.h"

struct deep {
        struct verify *v;
        void (*then)(struct verify *v, const GError *error);
};

static void next(struct deep *d);

static struct verify_point *present(const struct verify *v)
{
        return v->points->pdata[v->point];
}

static void end(struct deep *d, const GError *error)
{
        struct verify *v = d->v;

        if (v->part)
                unlink(v->part);
        g_clear_pointer(&v->part, g_free);
        d->then(v, error);
        g_free(d);
}

/* ---- room ---- */

/* What the image of a disk takes at most: its data, once for each layer that has them, and QEMU's tables. */
static guint64 room_needed(const struct verify *v, const GPtrArray *line)
{
        guint64 size = ((const LayerRecord *)line->pdata[0])->size_bytes, data = 0;

        for (guint i = 0; i < line->len; i++) {
                const struct verify_layer *l =
                        g_hash_table_lookup(v->layer_index, ((const LayerRecord *)line->pdata[i])->id);

                data += l ? l->room_bytes : 0;
        }
        return MIN(size, data) + size / 4096 + (UINT64_C(1) << 20);
}

static gboolean can_be_rebuilt(const struct verify_point *p)
{
        return p->in_store && !p->store_hurt;
}

static guint64 most_needed(const struct verify *v)
{
        guint64 most = 0;

        for (guint i = 0; i < v->points->len; i++) {
                const struct verify_point *p = v->points->pdata[i];

                for (guint k = 0; can_be_rebuilt(p) && k < p->p->lines->len; k++)
                        most = MAX(most, room_needed(v, p->p->lines->pdata[k]));
        }
        return most;
}

static gpointer room_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct deep *d = data;
        struct verify *v = d->v;
        guint64 needed = most_needed(v), there;
        struct statvfs fs;

        if (g_mkdir_with_parents(v->scratch, 0700) != 0 || statvfs(v->scratch, &fs) != 0) {
                moult_error_errno(error, errno, "the directory for scratch files, %s", v->scratch);
                return NULL;
        }
        there = (guint64)fs.f_bavail * fs.f_frsize;
        if (needed <= there)
                return d;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NO_SPACE,
                    "rebuilding a restore point takes up to %" G_GUINT64_FORMAT
                    " bytes, and %s has room for %" G_GUINT64_FORMAT
                    ": nothing was written; name another directory (--scratch DIR)",
                    needed, v->scratch, there);
        return NULL;
}

static void on_room(gpointer result, GError *error, gpointer user)
{
        struct deep *d = user;

        if (error)
                end(d, error);
        else
                next(d);
}

/* ---- one disk ---- */

static const FileChain *files_here(const struct verify *v)
{
        const struct verify_point *p = present(v);

        return p->files_hurt ? NULL : p->chains->pdata[v->disk];
}

static gpointer compare_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct deep *d = data;
        struct verify *v = d->v;
        g_autoptr(FileChain) scratch = file_chain_new();
        const struct disk_options options = {.helper = v->owner->env->disk_helper};
        const struct disk_pace pace = {.done = &v->done};
        g_autoptr(Disk) rebuilt = NULL, here = NULL;
        guint64 difference;

        fault_point("verify-compare");
        file_chain_add(scratch, v->part, "qcow2");
        rebuilt = file_chain_open(scratch, &options, cancellable, error);
        here = rebuilt ? file_chain_open(files_here(v), &options, cancellable, error) : NULL;
        if (!here || !disk_compare(rebuilt, here, NULL, &difference, &pace, cancellable, error))
                return NULL;
        if (difference != DISK_SAME)
                verify_note(v, FINDING_STATE_DIFFERS, NULL, NULL, present(v),
                            g_strdup_printf(
                                    "what the store has of disk %s and what the files here have differs "
                                    "at byte %" G_GUINT64_FORMAT,
                                    ((const struct snapshot_disk *)present(v)->p->s->disks->pdata[v->disk])
                                            ->device,
                                    difference));
        return d;
}

/* The next disk; the point's last one says that it was rebuilt, and compared. */
static void one_done(struct deep *d, gboolean compared)
{
        struct verify *v = d->v;
        struct verify_point *p = present(v);

        unlink(v->part);
        g_clear_pointer(&v->part, g_free);
        p->compared = compared && (v->disk == 0 || p->compared);
        if (++v->disk == p->p->lines->len) {
                p->rebuilt = TRUE;
                v->point++;
                v->disk = 0;
        }
        next(d);
}

static void on_compared(gpointer result, GError *error, gpointer user)
{
        struct deep *d = user;

        if (error)
                end(d, error);
        else
                one_done(d, TRUE);
}

static void on_rebuilt(const struct restore_result *result, const GError *error, gpointer user)
{
        struct deep *d = user;
        struct verify *v = d->v;
        const LayerRecord *r = ((GPtrArray *)present(v)->p->lines->pdata[v->disk])->pdata[0];

        v->restore = NULL;
        if (error) {
                /* An error of reading or writing is the scratch file's: the chunks were looked at before. */
                if (!g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND) &&
                    !g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CORRUPT)) {
                        end(d, error);
                        return;
                }
                verify_note(v, FINDING_LAYER_DAMAGED, NULL, NULL, present(v),
                            g_strdup_printf("it cannot be rebuilt: %s", error->message));
                v->point++;
                v->disk = 0;
                g_clear_pointer(&v->part, g_free);
                next(d);
                return;
        }
        verify_count(v, (gint64)r->size_bytes);
        if (!files_here(v)) {
                verify_count(v, (gint64)r->size_bytes);
                one_done(d, FALSE);
                return;
        }
        v->owner->env->worker->run(v->owner->env->self, compare_work, d, v->job.cancellable, on_compared, d);
}

static void next(struct deep *d)
{
        struct verify *v = d->v;
        g_autoptr(GError) cancelled = NULL;

        while (v->point < v->points->len && !can_be_rebuilt(present(v)))
                v->point++;
        if (v->point == v->points->len ||
            g_cancellable_set_error_if_cancelled(v->job.cancellable, &cancelled)) {
                end(d, cancelled);
                return;
        }
        v->part = g_strdup_printf("%s/verify-%s.part", v->scratch, v->job.id);
        unlink(v->part); /* of an earlier moultd */
        const struct restore_goal goal = {present(v)->p->lines->pdata[v->disk], v->part,
                                          /* standalone= */ TRUE, /* store_only= */ TRUE};
        v->restore = restore_start(v->owner->env, v->owner->env->objects, &goal, on_rebuilt, d);
}

void verify_deep(struct verify *v, void (*then)(struct verify *v, const GError *error))
{
        struct deep *d = g_new0(struct deep, 1);

        d->v = v;
        d->then = then;
        for (guint i = 0; i < v->points->len; i++) {
                const struct verify_point *p = v->points->pdata[i];

                for (guint k = 0; can_be_rebuilt(p) && k < p->p->lines->len; k++)
                        v->total +=
                                2 *
                                (gint64)((const LayerRecord *)((GPtrArray *)p->p->lines->pdata[k])->pdata[0])
                                        ->size_bytes;
        }
        v->owner->env->worker->run(v->owner->env->self, room_work, d, v->job.cancellable, on_room, d);
}
