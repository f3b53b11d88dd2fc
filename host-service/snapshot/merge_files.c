/* host-service/snapshot/merge_files.c - one file of two. */
#include "host-service/snapshot/merge_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/snapshot/layer_files.h"
#include "host-service/snapshot/layer_image.h"
#include "host-service/snapshot/layer_name.h"

static gboolean sync_dir_of(const char *path, GError **error)
{
        g_autofree char *dir = g_path_get_dirname(path);
        scoped_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fault_skip("merge-files.skip-dirsync"))
                return TRUE;
        return fd >= 0 && fsync(fd) == 0 ? TRUE
                                         : moult_error_errno(error, errno, "syncing the directory %s", dir);
}

gboolean merge_files_remove(const char *path, GError **error)
{
        g_autofree char *name = g_path_get_basename(path), *base = layer_name_base(name);
        scoped_fd int fd = -1;

        if (!base) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s has no layer's name: it stays",
                            path);
                return FALSE;
        }
        fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
                return TRUE;
        if (fd < 0)
                return moult_error_errno(error, errno, "opening %s", path);
        if (image_lock_look(fd) != IMAGE_FREE) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY, "a QEMU has %s open: it stays", path);
                return FALSE;
        }
        if (unlink(path) != 0 && errno != ENOENT)
                return moult_error_errno(error, errno, "removing %s", path);
        return sync_dir_of(path, error);
}

/* ---- the look ---- */

static gboolean look_at_result(const MergeRecord *r, struct merge_look *ret, GError **error)
{
        struct stat st;

        ret->has_result = lstat(r->file, &st) == 0;
        return ret->has_result || errno == ENOENT ||
               moult_error_errno(error, errno, "looking at %s", r->file);
}

static gboolean is_same(const struct stat *of, const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_dev == of->st_dev &&
               st.st_ino == of->st_ino;
}

static gboolean look_at_next(const char *next, struct merge_look *ret, GError **error)
{
        scoped_fd int fd = open(next, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

        if (fd < 0 && errno != ENOENT)
                return moult_error_errno(error, errno, "opening %s", next);
        ret->next_use = fd >= 0 ? image_lock_look(fd) : IMAGE_FREE;
        return TRUE;
}

gboolean merge_files_look(const MergeRecord *r, const char *next, struct merge_look *ret, GError **error)
{
        scoped_fd int fd = open(r->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat path;

        *ret = (struct merge_look){0};
        if (fd < 0 || fstat(fd, &path) != 0)
                return moult_error_errno(error, errno, "opening the disk %s", r->path);
        ret->is_top = is_same(&path, r->top);
        ret->is_next = next && is_same(&path, next);
        ret->next_use = IMAGE_FREE;
        ret->path_use = image_lock_look(fd);
        /* QEMU has written it, and nobody has asked it to flush. */
        if (fsync(fd) != 0)
                return moult_error_errno(error, errno, "syncing %s", r->path);
        if (!look_at_result(r, ret, error) || (next && !look_at_next(next, ret, error)))
                return FALSE;
        ret->backing = layer_image_backing(fd, r->path, error);
        return ret->backing != NULL;
}

/* ---- one of two ---- */

static gboolean may_make(const MergeRecord *r, GError **error)
{
        g_autofree char *dir = g_path_get_dirname(r->file);

        if (layer_files_may_do_it_here(dir, r->lower_file))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                    "moultd may not make files in %s with the owner of the disk itself, and this moult-disks "
                    "cannot merge for it yet: the history of the disk stays as it is",
                    dir);
        return FALSE;
}

gboolean merge_files_have_room(const MergeRecord *r, gboolean with_top, GError **error)
{
        struct stat upper, lower, top = {0};
        struct statvfs fs;
        guint64 needed, room;

        if (stat(r->upper_file, &upper) != 0 || stat(r->lower_file, &lower) != 0 ||
            (with_top && stat(r->top, &top) != 0) || statvfs(r->lower_file, &fs) != 0)
                return moult_error_errno(error, errno, "looking at %s and %s", r->upper_file, r->lower_file);
        needed = 512 * ((guint64)upper.st_blocks + (guint64)lower.st_blocks + (guint64)top.st_blocks);
        room = (guint64)fs.f_bavail * fs.f_frsize;
        if (room >= needed && fault_point("merge-room") == 0)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NO_SPACE,
                    "the history of the disk %s is not merged now: that may take %" G_GUINT64_FORMAT
                    " bytes beside %s for a while, and there are %" G_GUINT64_FORMAT,
                    r->device, needed, r->lower_file, room);
        return FALSE;
}

/* Whoever opens the lower file must be able to open the new one. */
static gboolean give_owner(const MergeRecord *r, int fd, GError **error)
{
        struct stat lower, made;

        if (stat(r->lower_file, &lower) != 0 || fstat(fd, &made) != 0)
                return moult_error_errno(error, errno, "looking at %s", r->lower_file);
        if (fchmod(fd, lower.st_mode & 0777) != 0)
                return moult_error_errno(error, errno, "giving %s the mode of %s", r->file, r->lower_file);
        if ((lower.st_uid != made.st_uid || lower.st_gid != made.st_gid) &&
            fchown(fd, lower.st_uid, lower.st_gid) != 0)
                return moult_error_errno(error, errno, "giving %s the owner of %s", r->file, r->lower_file);
        return TRUE;
}

static gboolean make_empty(const MergeRecord *r, guint64 size, const char *qemu_img, GCancellable *c,
                           GError **error)
{
        const struct layer_image image = {
                .name = r->file, .backing = r->below, .backing_format = r->below_format, .size = size};
        scoped_fd int fd = -1;

        if (!merge_files_remove(r->file, error))
                return FALSE;
        fd = open(r->file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return moult_error_errno(error, errno, "making %s", r->file);
        fault_point("merge-make");
        return layer_image_make(fd, qemu_img, &image, c, error) && give_owner(r, fd, error);
}

/* The new file over what lies below: the chain of @chain, with it in the place of the first two. */
static Disk *open_result(const MergeRecord *r, const struct disk_image *chain, guint n, gboolean writable,
                         GCancellable *c, GError **error)
{
        g_autofree struct disk_image *of = g_new(struct disk_image, n - 1);
        const struct disk_options options = {.writable = writable};

        of[0] = (struct disk_image){r->file, "qcow2"};
        for (guint i = 2; i < n; i++)
                of[i - 1] = chain[i];
        return disk_open(of, n - 1, &options, c, error);
}

/* Where the lower file's disk has ended, and that of the upper one goes on, zeros are seen, whatever lies
 * below both. */
static gboolean copy_both(Disk *from, guint64 lower_size, Disk *to, GCancellable *c, GError **error)
{
        guint64 size = disk_size(from);
        g_autoptr(GArray) map = NULL;
        int fault = fault_point("merge-copy");

        if (fault)
                return moult_error_errno(error, fault, "writing to %s", disk_name(to));
        if (size > lower_size && !disk_zero(to, lower_size, size - lower_size, c, error))
                return FALSE;
        map = disk_map(from, 2, c, error);
        return map && disk_copy(from, map, to, NULL, c, error);
}

/* All of it is compared, also what neither has: then the chains below are the same, too. */
static gboolean compare(const MergeRecord *r, Disk *a, Disk *b, GCancellable *c, GError **error)
{
        guint64 difference;

        if (!disk_compare(a, b, NULL, &difference, NULL, c, error))
                return FALSE;
        if (difference == DISK_SAME)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "%s does not read as %s over %s does, from byte %" G_GUINT64_FORMAT
                    " on: it is not used, and the disk stays as it is",
                    r->file, r->upper_file, r->lower_file, difference);
        return FALSE;
}

static gboolean settle_result(const MergeRecord *r, GError **error)
{
        scoped_fd int fd = open(r->file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        g_autofree char *backing = NULL;

        if (fd < 0 || (!fault_skip("merge-files.skip-fsync") && fsync(fd) != 0))
                return moult_error_errno(error, errno, "syncing %s", r->file);
        backing = layer_image_backing(fd, r->file, error);
        if (!backing)
                return FALSE;
        if (g_strcmp0(backing, r->below ? r->below : "") == 0)
                return sync_dir_of(r->file, error);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "the header of %s names %s, and not %s", r->file,
                    backing, r->below ? r->below : "nothing");
        return FALSE;
}

static gboolean fill(const MergeRecord *r, const struct disk_image *chain, guint n, guint64 lower_size,
                     Disk *from, GCancellable *c, GError **error)
{
        g_autoptr(Disk) to = open_result(r, chain, n, TRUE, c, error), made = NULL;

        if (!to || !copy_both(from, lower_size, to, c, error) || !disk_close(g_steal_pointer(&to), error))
                return FALSE;
        fault_point("merge-copied");
        made = open_result(r, chain, n, FALSE, c, error);
        return made && compare(r, made, from, c, error);
}

gboolean merge_files_make(const MergeRecord *r, const struct disk_image *chain, guint n, const char *qemu_img,
                          GCancellable *c, GError **error)
{
        g_autoptr(Disk) from = NULL;
        guint64 lower_size;

        if (!may_make(r, error))
                return FALSE;
        from = disk_open(chain + 1, n - 1, NULL, c, error);
        if (!from)
                return FALSE;
        lower_size = disk_size(from);
        g_clear_pointer(&from, disk_free);
        from = disk_open(chain, n, NULL, c, error);
        return from && make_empty(r, disk_size(from), qemu_img, c, error) &&
               fill(r, chain, n, lower_size, from, c, error) && settle_result(r, error);
}
