/* host-service/snapshot/restore.c - restore points into new images. */
#include "host-service/snapshot/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/layers/layer_disk.h"
#include "host-service/layers/layer_task.h"
#include "host-service/snapshot/layer_image.h"

#define QEMU_IMG "qemu-img"

struct Restore {
        const struct host_env *env;
        ObjectStore *objects;
        const GPtrArray *line;
        char *path;
        gboolean standalone, store_only, made;
        restore_done_func done;
        gpointer user;
        GCancellable *cancellable;
        FileChain *files; /* the restore point's own; NULL: not all are here */
        FileChain *image; /* the new one, and what it stands on */
        GArray *refs;     /* of struct layer_ref, newest first: in the store */
        Disk *disk;       /* of the new image */
        struct layer_disk_writer writer;
        LayerRestore *fetch;
        struct restore_result result;
        gint64 done_bytes, total_bytes;
        GError *error, *changed; /* changed: of the base; why its files are not believed */
};

static const LayerRecord *record(const Restore *r, guint i)
{
        return r->line->pdata[i];
}

static const LayerRecord *base(const Restore *r)
{
        const LayerRecord *last = record(r, r->line->len - 1);

        return layer_record_is_base(last) ? last : NULL;
}

/* ---- the end ---- */

static void finish(Restore *r)
{
        if (r->error && r->made)
                unlink(r->path);
        r->done(r->error ? NULL : &r->result, r->error, r->user);
        disk_free(r->disk);
        file_chain_free(r->files);
        file_chain_free(r->image);
        g_clear_pointer(&r->refs, g_array_unref);
        g_object_unref(r->cancellable);
        g_clear_error(&r->error);
        g_clear_error(&r->changed);
        g_free(r->path);
        g_free(r);
}

static void fail(Restore *r, const GError *error)
{
        if (!r->error)
                r->error = g_error_copy(error);
        finish(r);
}

/* ---- from the store ---- */

static gpointer close_work(gpointer data, GCancellable *cancellable, GError **error)
{
        Restore *r = data;

        return disk_close(g_steal_pointer(&r->disk), error) ? r : NULL;
}

static void on_closed(gpointer result, GError *error, gpointer user)
{
        if (error)
                fail(user, error);
        else
                finish(user);
}

static void on_fetched(const struct layer_restore_result *result, const GError *error, gpointer user)
{
        Restore *r = user;

        r->fetch = NULL;
        if (error) {
                fail(r, error);
                return;
        }
        r->result.bytes = result->data_bytes;
        r->result.fetched = result->fetched_bytes;
        r->env->worker->run(r->env->self, close_work, r, r->cancellable, on_closed, r);
}

static void on_writer(gpointer result, GError *error, gpointer user)
{
        Restore *r = user;
        const struct layer_restore_options options = {.done = &r->done_bytes, .total = &r->total_bytes};
        g_autoptr(GError) cancelled = NULL;

        if (error || g_cancellable_set_error_if_cancelled(r->cancellable, &cancelled)) {
                fail(r, error ? error : cancelled);
                return;
        }
        r->result.from_store = TRUE;
        r->fetch = layer_restore_start(r->env, r->objects,
                                       (const struct layer_ref *)(gconstpointer)r->refs->data, r->refs->len,
                                       &r->writer.writer, &options, on_fetched, r);
}

/* ---- the image, and from files ---- */

static gboolean make_image(Restore *r, GError **error)
{
        const struct disk_image *below =
                r->image->images->len > 1 ? &g_array_index(r->image->images, struct disk_image, 1) : NULL;
        const struct layer_image image = {.name = r->path,
                                          .backing = below ? below->path : NULL,
                                          .backing_format = below ? below->format : NULL,
                                          .size = record(r, 0)->size_bytes};
        scoped_fd int fd = open(r->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd < 0)
                return moult_error_errno(error, errno, "making %s", r->path);
        r->made = TRUE;
        return layer_image_make(fd, QEMU_IMG, &image, r->cancellable, error);
}

static Disk *open_chain(const Restore *r, const FileChain *c, gboolean writable, GCancellable *cancellable,
                        GError **error)
{
        /* What is made is moultd's own file; what it is made of may not be. */
        const struct disk_options options = {.writable = writable,
                                             .helper = writable ? NULL : r->env->disk_helper};

        return file_chain_open(c, &options, cancellable, error);
}

static gboolean is_equal(Restore *r, Disk *from, Disk *to, GCancellable *cancellable, GError **error)
{
        const struct disk_pace pace = {.done = &r->done_bytes};
        guint64 difference;

        if (!disk_compare(from, to, NULL, &difference, &pace, cancellable, error))
                return FALSE;
        if (difference == DISK_SAME)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "the copy %s differs from what it was made of at byte %" G_GUINT64_FORMAT
                    ": a disk or the memory of this host is ill. The copy was removed",
                    r->path, difference);
        return FALSE;
}

static gboolean copy_files(Restore *r, GCancellable *cancellable, GError **error)
{
        guint own = r->files->images->len - (r->image->images->len - 1); /* files that are not the base's */
        g_autoptr(Disk) from = open_chain(r, r->files, FALSE, cancellable, error), to = NULL;
        g_autoptr(GArray) map = from ? disk_map(from, own, cancellable, error) : NULL;
        const struct disk_pace pace = {.done = &r->done_bytes};

        if (!map || !(to = open_chain(r, r->image, TRUE, cancellable, error)))
                return FALSE;
        for (guint i = 0; i < map->len; i++) {
                const struct disk_range *range = &g_array_index(map, struct disk_range, i);

                if (range->kind == DISK_DATA)
                        r->result.bytes += range->length;
        }
        fault_point("restore-copy");
        return disk_copy(from, map, to, &pace, cancellable, error) && disk_flush(to, cancellable, error) &&
               is_equal(r, from, to, cancellable, error) && disk_close(g_steal_pointer(&to), error);
}

static gpointer make_work(gpointer data, GCancellable *cancellable, GError **error)
{
        Restore *r = data;

        if (!make_image(r, error))
                return NULL;
        if (r->files)
                return copy_files(r, cancellable, error) ? r : NULL;
        r->disk = open_chain(r, r->image, TRUE, cancellable, error);
        if (r->disk)
                layer_disk_writer_init(&r->writer, r->disk);
        return r->disk ? r : NULL;
}

/* ---- where from ---- */

static gboolean describe_image(Restore *r, GError **error)
{
        r->image = file_chain_new();
        file_chain_add(r->image, r->path, "qcow2");
        return r->standalone || !base(r) || layer_line_add_base(r->image, base(r), error);
}

static gboolean nowhere(Restore *r, const char *why, GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                    "the state of layer %s cannot be had: %s, and %s", record(r, 0)->id,
                    r->changed ? r->changed->message : "not all of its files are on this host", why);
        return FALSE;
}

static gboolean describe_store(Restore *r, GError **error)
{
        guint n = r->line->len - (base(r) && !r->standalone ? 1 : 0);

        if (!r->objects)
                return nowhere(r, "there is no store", error);
        if (record(r, 0)->folded_into)
                return nowhere(r, "the store has it only as a part of a newer one", error);
        r->refs = g_array_new(FALSE, FALSE, sizeof(struct layer_ref));
        for (guint i = 0; i < n; i++) {
                const LayerRecord *l = record(r, i);
                struct layer_ref ref = {l->id, l->map_digest};

                if (l->uploaded_us)
                        g_array_append_val(r->refs, ref);
                else if (!l->folded_into)
                        return nowhere(r, "the store does not have all of it", error);
        }
        return TRUE;
}

static gboolean begin(Restore *r, GError **error)
{
        guint64 size = record(r, 0)->size_bytes;

        if (!describe_image(r, error))
                return FALSE;
        /* What stands on a base that was changed is wrong here; the store has it as it was. */
        if (!r->store_only && layer_line_base_is_same(r->line, &r->changed))
                r->files = layer_line_files(r->line, 0, r->line->len, NULL);
        if (!r->files && !describe_store(r, error))
                return FALSE;
        r->total_bytes = (gint64)(r->files ? 2 * size : size);
        r->env->worker->run(r->env->self, make_work, r, r->cancellable, r->files ? on_closed : on_writer, r);
        return TRUE;
}

static gboolean on_failed(gpointer user)
{
        finish(user);
        return G_SOURCE_REMOVE;
}

Restore *restore_start(const struct host_env *env, ObjectStore *objects, const struct restore_goal *goal,
                       restore_done_func done, gpointer user)
{
        Restore *r = g_new0(Restore, 1);

        r->env = env;
        r->objects = objects;
        r->line = goal->line;
        r->path = g_strdup(goal->path);
        r->standalone = goal->standalone;
        r->store_only = goal->store_only;
        r->done = done;
        r->user = user;
        r->cancellable = g_cancellable_new();
        if (!begin(r, &r->error)) {
                GSource *now = g_idle_source_new();

                g_source_set_callback(now, on_failed, r, NULL);
                g_source_attach(now, env->context);
                g_source_unref(now);
        }
        return r;
}

void restore_cancel(Restore *r)
{
        g_cancellable_cancel(r->cancellable);
        if (r->fetch)
                layer_restore_cancel(r->fetch);
}

const gint64 *restore_done_bytes(const Restore *r)
{
        return &r->done_bytes;
}

const gint64 *restore_total_bytes(const Restore *r)
{
        return &r->total_bytes;
}
