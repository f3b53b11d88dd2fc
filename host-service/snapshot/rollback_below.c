/* host-service/snapshot/rollback_below.c - what the new tops of a rollback stand on, and these. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/snapshot/layer_image.h"
#include "host-service/snapshot/rollback_private.h"

#define QEMU_IMG "qemu-img"

/* They are made: a last look, since fetching may have taken hours. */
static void rollback_made(struct rollback *t)
{
        t->made = TRUE;
        rollback_look(t);
}

/* ---- the new tops ---- */

/* What the new top stands on is there: only that of the layers, the base is its owner's. */
static gboolean check_below(struct way *w, GError **error)
{
        g_autoptr(FileChain) files = layer_line_files(w->line, 0, w->line->len, error);
        const LayerRecord *last = w->line->pdata[w->line->len - 1];
        g_autoptr(FileChain) base = file_chain_new();

        if (!files)
                return FALSE;
        if (layer_record_is_base(last) && !layer_line_add_base(base, last, error))
                return FALSE;
        return layer_images_check((const struct disk_image *)(gconstpointer)files->images->data,
                                  files->images->len,
                                  files->images->len - MIN(base->images->len, files->images->len), error);
}

static gboolean make_one(struct rollback *t, struct way *w, GError **error)
{
        const LayerRecord *layer = w->line->pdata[0];
        g_autofree char *name = g_path_get_basename(w->below);

        if (!w->is_fetched && !check_below(w, error))
                return FALSE;
        g_clear_pointer(&w->files, layer_files_free);
        w->files = layer_files_open(w->to->path, name, w->before->next, w->format, layer->size_bytes,
                                    t->owner->env->disk_helper, error);
        return w->files && layer_files_make_next(w->files, QEMU_IMG, t->job.cancellable, error);
}

static void make(struct rollback *t)
{
        fault_point("rollback-make");
        rollback_run(t, make_one, rollback_made, t->job.cancellable);
}

/* ---- what is not here ---- */

/* Who could open the disk can open what it stands on. */
static gboolean adopt(const struct way *w, GError **error)
{
        g_autofree char *dir = g_path_get_dirname(w->below);
        scoped_fd int fd = -1;
        struct stat disk;

        if (stat(w->to->path, &disk) != 0)
                return moult_error_errno(error, errno, "looking at %s", w->to->path);
        if (chmod(w->part, disk.st_mode & 0777) != 0 ||
            (geteuid() == 0 && chown(w->part, disk.st_uid, disk.st_gid) != 0))
                return moult_error_errno(error, errno, "giving %s the owner and mode of the disk", w->part);
        if (rename(w->part, w->below) != 0)
                return moult_error_errno(error, errno, "naming %s %s", w->part, w->below);
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) != 0)
                return moult_error_errno(error, errno, "syncing %s", dir);
        return TRUE;
}

static gboolean record_file(struct rollback *t, struct way *w, GError **error)
{
        Catalogue *c = t->owner->catalogue;
        const LayerRecord *layer = w->line->pdata[0], *last = w->line->pdata[w->line->len - 1];
        const char *on = w->standalone ? NULL : last->id;
        LayerRecord copy = {.id = w->before->next_on,
                            .vm = t->vm,
                            .disk = w->before->number,
                            .parent = layer->id,
                            .file = w->below,
                            .file_on = (char *)on,
                            .format = (char *)"qcow2",
                            .size_bytes = layer->size_bytes};

        if (!w->copy)
                return catalogue_layer_set_file(c, layer->id, w->below, on, "qcow2", error);
        return w->has_copy = catalogue_layer_add(c, &copy, error);
}

static void on_restored(const struct restore_result *result, const GError *error, gpointer user)
{
        struct rollback *t = user;
        struct way *w = &t->ways[t->k];
        g_autoptr(GError) why = NULL;

        t->restore = NULL;
        job_task_hide(&t->job);
        if (t->owner->closing)
                return;
        w->format = "qcow2";
        if (error || !adopt(w, &why) || !record_file(t, w, &why)) {
                rollback_fail(t, error ? error : why);
                return;
        }
        w->is_fetched = TRUE;
        t->k++;
        rollback_fetch(t);
}

static void fetch(struct rollback *t, struct way *w)
{
        g_autofree char *dir = g_path_get_dirname(w->to->path), *base = g_path_get_basename(w->to->path);
        g_autoptr(GError) error = NULL;
        g_autofree char *name = layer_name_new(base, t->job.id, w->to->number + RESTORED, &error);
        struct restore_goal goal;

        if (!name) {
                rollback_fail(t, error);
                return;
        }
        g_free(w->below);
        w->below = g_build_filename(dir, name, NULL);
        g_free(w->part);
        w->part = g_strdup_printf("%s.moult-%s-%u.part", w->to->path, t->job.id, w->to->number);
        unlink(w->part); /* of an earlier moultd */
        w->standalone = !layer_line_base_is_same(w->line, NULL);
        goal = (struct restore_goal){.line = w->line, .path = w->part, .standalone = w->standalone};
        t->restore = restore_start(t->owner->env, t->owner->env->objects, &goal, on_restored, t);
        job_task_show(&t->job, t->owner->env, restore_done_bytes(t->restore),
                      restore_total_bytes(t->restore));
}

void rollback_fetch(struct rollback *t)
{
        while (t->k < t->to->disks->len) {
                struct way *w = &t->ways[t->k];
                const LayerRecord *layer = w->line->pdata[0];
                g_autoptr(FileChain) here = layer_line_files(w->line, 0, w->line->len, NULL);

                if (w->copy ? !w->has_copy : !here) {
                        fetch(t, w);
                        return;
                }
                if (w->copy) {
                        w->format = "qcow2";
                        w->is_fetched = TRUE;
                } else {
                        g_free(w->below);
                        w->below = g_strdup(layer->file);
                        w->format = layer->format;
                }
                t->k++;
        }
        make(t);
}
