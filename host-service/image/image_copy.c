/* host-service/image/image_copy.c - a copy of an image that is worked on, and then takes the image's place.
 */
#include "host-service/image/image_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/image/image_lock.h"

#define PIECE (8u << 20)

struct ImageCopy {
        struct image_name name; /* of the copy */
        char *target;
        struct stat from;
        gboolean in_place; /* the target is what was copied */
        int fd, dir_fd;
        gboolean published;
};

void image_copy_free(ImageCopy *c)
{
        if (!c)
                return;
        if (!c->published && c->name.path && c->fd >= 0)
                unlink(c->name.path);
        if (c->fd >= 0)
                close(c->fd);
        if (c->dir_fd >= 0)
                close(c->dir_fd);
        image_name_clear(&c->name);
        g_free(c->target);
        g_free(c);
}

const struct image_name *image_copy_name(const ImageCopy *c)
{
        return &c->name;
}

/* One piece: by the kernel where it can, else through us. */
/* Holes stay holes. */
static gboolean copy_data(ImageCopy *c, int from, const char *path, GCancellable *cancellable, GError **error)
{
        off_t size = c->from.st_size, end;

        if (ioctl(c->fd, FICLONE, from) == 0)
                return TRUE;
        if (ftruncate(c->fd, size) < 0)
                return moult_error_errno(error, errno, "making room for a copy of %s", path);
        for (off_t at = 0; at < size; at = end) {
                off_t data = lseek(from, at, SEEK_DATA);

                if (data < 0 && errno == ENXIO)
                        return TRUE;
                if (data < 0)
                        data = at; /* a file system that cannot tell */
                off_t hole = lseek(from, data, SEEK_HOLE);
                end = MIN(hole > data ? hole : size, data + (off_t)PIECE);
                if (g_cancellable_set_error_if_cancelled(cancellable, error) ||
                    !fd_copy_piece(from, c->fd, data, (gsize)(end - data), path, "the copy of the image",
                                   error))
                        return FALSE;
        }
        return TRUE;
}

static gboolean somebody_else(const ImageCopy *c, GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                    "somebody else works on %s just now; try again when they are done", c->target);
        return FALSE;
}

static gboolean is_still_called(int fd, const char *path)
{
        struct stat mine, there;

        return fstat(fd, &mine) == 0 && lstat(path, &there) == 0 && mine.st_ino == there.st_ino &&
               mine.st_dev == there.st_dev;
}

/* What a dead process left is locked by nobody. A virtual machine of its may still write to it for a moment:
 * so it goes, and is not used again. */
static gboolean remove_stale(const ImageCopy *c, GError **error)
{
        scoped_fd int fd = open(c->name.path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

        if (fd < 0)
                return errno == ENOENT || moult_error_errno(error, errno, "opening %s", c->name.path);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0 || !is_still_called(fd, c->name.path))
                return somebody_else(c, error);
        return unlink(c->name.path) == 0 || moult_error_errno(error, errno, "removing %s", c->name.path);
}

/* The copy's name follows from the target's, so what a dead process left is found, and two do not work on one
 * target. */
static gboolean take_name(ImageCopy *c, GError **error)
{
        g_autofree char *dir = g_path_get_dirname(c->target), *base = g_path_get_basename(c->target);
        g_autofree char *hidden = g_strdup_printf(".%s.moult-new", base);

        c->name.path = g_build_filename(dir, hidden, NULL);
        c->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (c->dir_fd < 0)
                return moult_error_errno(error, errno, "opening the directory %s", dir);
        if (!remove_stale(c, error))
                return FALSE;
        c->fd = open(c->name.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (c->fd < 0 && errno != EEXIST)
                return moult_error_errno(error, errno, "making a copy beside %s", c->target);
        if (c->fd >= 0 && flock(c->fd, LOCK_EX | LOCK_NB) == 0 && is_still_called(c->fd, c->name.path))
                return TRUE;
        scoped_fd_close(&c->fd); /* not ours to remove */
        c->fd = -1;
        return somebody_else(c, error);
}

ImageCopy *image_copy_new(const struct image_name *from, const char *target, GCancellable *cancellable,
                          GError **error)
{
        g_autoptr(ImageCopy) c = g_new0(ImageCopy, 1);
        scoped_fd int fd = open(from->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

        c->fd = c->dir_fd = -1;
        c->name.format = from->format;
        c->target = g_strdup(target);
        c->in_place = g_str_equal(target, from->path);
        if (fd < 0 || fstat(fd, &c->from) < 0) {
                moult_error_errno(error, errno, "opening the image %s", from->path);
                return NULL;
        }
        if (c->in_place && c->from.st_nlink > 1) {
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                        "%s has other names (hard links), which would keep the old image: write to a new one "
                        "(--output)",
                        from->path);
                return NULL;
        }
        if (!take_name(c, error) || !copy_data(c, fd, from->path, cancellable, error))
                return NULL;
        fault_point("image-copied");
        return g_steal_pointer(&c);
}

/* Nobody has written to the image, or opened it, since it was copied. */
static gboolean is_untouched(const ImageCopy *c, GError **error)
{
        scoped_fd int fd = open(c->target, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        struct stat now;

        if (fd < 0 || fstat(fd, &now) < 0)
                return moult_error_errno(error, errno, "looking again at %s", c->target);
        if (now.st_ino == c->from.st_ino && now.st_dev == c->from.st_dev && now.st_size == c->from.st_size &&
            now.st_mtim.tv_sec == c->from.st_mtim.tv_sec && now.st_mtim.tv_nsec == c->from.st_mtim.tv_nsec &&
            image_lock_look(fd) == IMAGE_FREE)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                    "%s was changed, or a VM was started with it, while the release was put into a copy: it "
                    "is as "
                    "it was, without the release",
                    c->target);
        return FALSE;
}

gboolean image_copy_publish(ImageCopy *c, gboolean replace, GError **error)
{
        if (c->in_place && !is_untouched(c, error))
                return FALSE;
        if (fchown(c->fd, c->from.st_uid, c->from.st_gid) < 0 || fchmod(c->fd, c->from.st_mode & 07777) < 0 ||
            fsync(c->fd) < 0)
                return moult_error_errno(error, errno, "finishing the copy of the image for %s", c->target);
        fault_point("image-ready");
        if (renameat2(AT_FDCWD, c->name.path, AT_FDCWD, c->target,
                      c->in_place || replace ? 0 : RENAME_NOREPLACE) < 0) {
                if (errno != EEXIST)
                        return moult_error_errno(error, errno, "renaming the copy to %s", c->target);
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "%s exists already; choose another name, or say --force to replace it",
                            c->target);
                return FALSE;
        }
        c->published = TRUE;
        fault_point("image-renamed");
        return fsync(c->dir_fd) == 0 ||
               moult_error_errno(error, errno, "syncing the directory of %s", c->target);
}
