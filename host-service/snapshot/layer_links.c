/* host-service/snapshot/layer_links.c - links and images of one disk. */
#include "host-service/snapshot/layer_links.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/image/qcow2_header.h"

#define SECTOR_BYTES 512u             /* QEMU rounds up to these */
#define PLACING      ".moult-placing" /* behind the well-known name: the link that is renamed onto it */

static gboolean sync_dir(const LayerLinks *f, GError **error)
{
        if (fault_skip("layer-links.skip-dirsync") || fsync(f->dir_fd) == 0)
                return TRUE;
        return moult_error_errno(error, errno, "syncing the directory %s", f->dir);
}

/* FALSE with @error unset: there is no such name. */
static gboolean look_at(const LayerLinks *f, const char *name, struct stat *ret, GError **error)
{
        if (fstatat(f->dir_fd, name, ret, AT_SYMLINK_NOFOLLOW) == 0)
                return TRUE;
        if (errno != ENOENT)
                moult_error_errno(error, errno, "looking at %s/%s", f->dir, name);
        return FALSE;
}

static gboolean look_at_image(const LayerLinks *f, const char *name, struct stat *ret, GError **error)
{
        g_autoptr(GError) why = NULL;

        if (!look_at(f, name, ret, &why)) {
                if (why)
                        g_propagate_error(error, g_steal_pointer(&why));
                else
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "there is no %s/%s", f->dir,
                                    name);
                return FALSE;
        }
        if (S_ISREG(ret->st_mode))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "%s/%s is no regular file; snapshots are taken of disks that are", f->dir, name);
        return FALSE;
}

static gboolean is_same(const struct stat *a, const struct stat *b)
{
        return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* To whom the names belong; nothing is opened. */
static gboolean look_at_names(const LayerLinks *f, struct layer_look *ret, GError **error)
{
        g_autoptr(GError) why = NULL;
        struct stat well_known, top, next;

        *ret = (struct layer_look){0};
        if (!look_at_image(f, f->well_known, &well_known, error))
                return FALSE;
        ret->has_top = look_at(f, f->top, &top, &why);
        if (!why)
                ret->has_next = look_at(f, f->next, &next, &why);
        if (why) {
                g_propagate_error(error, g_steal_pointer(&why));
                return FALSE;
        }
        ret->changed_ns = (gint64)well_known.st_ctim.tv_sec * 1000000000 + well_known.st_ctim.tv_nsec;
        ret->well_known = ret->has_next && is_same(&well_known, &next)  ? WELL_KNOWN_NEXT
                          : ret->has_top && !is_same(&well_known, &top) ? WELL_KNOWN_OTHER
                                                                        : WELL_KNOWN_TOP;
        return TRUE;
}

/* A descriptor for reading, or -1; @error unset: there is no such name. */
static int open_image(const LayerLinks *f, const char *name, GError **error)
{
        int fd = openat(f->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

        if (fd < 0 && errno != ENOENT)
                moult_error_errno(error, errno, "opening %s/%s", f->dir, name);
        return fd;
}

static gboolean look_at_use(const LayerLinks *f, const char *name, enum image_lock *ret, GError **error)
{
        g_autoptr(GError) why = NULL;
        scoped_fd int fd = open_image(f, name, &why);

        if (why) {
                g_propagate_error(error, g_steal_pointer(&why));
                return FALSE;
        }
        *ret = fd < 0 ? IMAGE_FREE : image_lock_look(fd);
        return TRUE;
}

static gboolean look(const LayerLinks *f, struct layer_look *ret, GError **error)
{
        return look_at_names(f, ret, error) && look_at_use(f, f->well_known, &ret->disk_use, error) &&
               look_at_use(f, f->next, &ret->next_use, error);
}

/* ---- links ---- */

static gboolean add_link(const LayerLinks *f, const char *from, const char *to, GError **error)
{
        if (linkat(f->dir_fd, from, f->dir_fd, to, 0) == 0)
                return TRUE;
        if (errno != EPERM && errno != EMLINK && errno != EOPNOTSUPP && errno != EXDEV)
                return moult_error_errno(error, errno, "linking %s/%s as %s", f->dir, from, to);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "%s/%s cannot get a second name (%s); snapshots need a file system with hard links",
                    f->dir, from, g_strerror(errno));
        return FALSE;
}

static gboolean name_top(const LayerLinks *f, GError **error)
{
        struct layer_look there;

        if (!look_at_names(f, &there, error))
                return FALSE;
        if (!there.has_top && there.well_known != WELL_KNOWN_TOP) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                            "%s/%s is not the present top of the disk any more", f->dir, f->well_known);
                return FALSE;
        }
        return (there.has_top || add_link(f, f->well_known, f->top, error)) && sync_dir(f, error);
}

/* None: success. */
static gboolean remove_name(const LayerLinks *f, const char *name, GError **error)
{
        if (unlinkat(f->dir_fd, name, 0) == 0 || errno == ENOENT)
                return TRUE;
        return moult_error_errno(error, errno, "removing %s/%s", f->dir, name);
}

static gboolean remove_placing(const LayerLinks *f, GError **error)
{
        g_autofree char *placing = g_strconcat(f->well_known, PLACING, NULL);

        return remove_name(f, placing, error);
}

/* The well-known path changes its inode, and is there at every moment. */
static gboolean place(const LayerLinks *f, const char *layer, GError **error)
{
        g_autofree char *placing = g_strconcat(f->well_known, PLACING, NULL);
        struct stat here, there;

        if (!look_at_image(f, f->well_known, &here, error) || !look_at_image(f, layer, &there, error))
                return FALSE;
        if (!remove_placing(f, error))
                return FALSE;
        if (!is_same(&here, &there)) { /* else rename would leave both */
                if (!add_link(f, layer, placing, error))
                        return FALSE;
                fault_point("layer-place");
                if (renameat(f->dir_fd, placing, f->dir_fd, f->well_known) != 0)
                        return moult_error_errno(error, errno, "giving the name %s/%s to %s", f->dir,
                                                 f->well_known, layer);
        }
        fault_point("layer-placed");
        return sync_dir(f, error);
}

static gboolean remove_next(const LayerLinks *f, GError **error)
{
        struct layer_look there;

        if (!look_at_names(f, &there, error))
                return FALSE;
        if (there.well_known == WELL_KNOWN_NEXT) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s/%s is the disk itself: it stays",
                            f->dir, f->next);
                return FALSE;
        }
        return remove_name(f, f->next, error) && remove_placing(f, error) && sync_dir(f, error);
}

static gboolean unname_top(const LayerLinks *f, GError **error)
{
        struct layer_look there;

        if (!look_at_names(f, &there, error))
                return FALSE;
        if (there.well_known != WELL_KNOWN_TOP) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s/%s has no other name: it stays",
                            f->dir, f->top);
                return FALSE;
        }
        return remove_name(f, f->top, error) && sync_dir(f, error);
}

/* ---- the new top ---- */

static gboolean stands_on(const char *below, const struct qcow2_header *h, const guint8 *bytes, gsize len)
{
        if (!below)
                return h->backing_offset == 0;
        return h->backing_offset != 0 && h->backing_offset <= len &&
               h->backing_length <= len - h->backing_offset && h->backing_length == strlen(below) &&
               memcmp(bytes + h->backing_offset, below, h->backing_length) == 0;
}

/* What the image says about other files is what was asked for, whoever has made it. */
static gboolean judge_image(const LayerLinks *f, GBytes *image, GError **error)
{
        gsize len;
        const guint8 *bytes = g_bytes_get_data(image, &len);
        struct qcow2_header h;
        const char *why = qcow2_header_parse(bytes, len, &h);

        if (!why)
                why = qcow2_header_refusal(&h, TRUE);
        if (!why && !stands_on(f->below, &h, bytes, len))
                why = "stands on another file than it should";
        if (!why && (h.size < f->size || h.size - f->size >= SECTOR_BYTES))
                why = "has another size than the disk";
        if (!why)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "the new image %s/%s %s", f->dir, f->next, why);
        return FALSE;
}

static GBytes *read_image(const LayerLinks *f, int image, GError **error)
{
        struct stat st;
        g_autofree guint8 *bytes = NULL;

        if (fstat(image, &st) != 0) {
                moult_error_errno(error, errno, "looking at the image for %s/%s", f->dir, f->next);
                return NULL;
        }
        if (!S_ISREG(st.st_mode) || st.st_size > LAYER_IMAGE_MAX) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "what %s/%s is to be made of is no empty image", f->dir, f->next);
                return NULL;
        }
        bytes = g_malloc((gsize)st.st_size + 1);
        if (!fd_pread_all(image, bytes, (gsize)st.st_size, 0, f->next, error))
                return NULL;
        return g_bytes_new_take(g_steal_pointer(&bytes), (gsize)st.st_size);
}

static gboolean write_image(const LayerLinks *f, GBytes *image, GError **error)
{
        scoped_fd int fd =
                openat(f->dir_fd, f->next, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd < 0)
                return moult_error_errno(error, errno, "making %s/%s", f->dir, f->next);
        return fd_write_all(fd, g_bytes_get_data(image, NULL), g_bytes_get_size(image), f->next, error);
}

/* Who opens the present top must be able to open the new one. */
static gboolean settle_image(const LayerLinks *f, GError **error)
{
        scoped_fd int fd = openat(f->dir_fd, f->next, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        struct stat disk, made;

        if (fd < 0 || fstat(fd, &made) != 0)
                return moult_error_errno(error, errno, "opening %s/%s", f->dir, f->next);
        if (!look_at_image(f, f->well_known, &disk, error))
                return FALSE;
        if (fchmod(fd, disk.st_mode & 0777) != 0)
                return moult_error_errno(error, errno, "giving %s/%s the mode of the disk", f->dir, f->next);
        /* Not asked for without need: whoever has no privileges may not. */
        if ((disk.st_uid != made.st_uid || disk.st_gid != made.st_gid) &&
            fchown(fd, disk.st_uid, disk.st_gid) != 0)
                return moult_error_errno(error, errno, "giving %s/%s the owner of the disk", f->dir, f->next);
        if (!fault_skip("layer-links.skip-fsync") && fsync(fd) != 0)
                return moult_error_errno(error, errno, "syncing %s/%s", f->dir, f->next);
        return sync_dir(f, error);
}

static gboolean make_next(const LayerLinks *f, int image, GError **error)
{
        g_autoptr(GBytes) bytes = read_image(f, image, error);

        if (!bytes || !judge_image(f, bytes, error) || !remove_next(f, error) ||
            !write_image(f, bytes, error))
                return FALSE;
        fault_point("layer-made");
        return settle_image(f, error);
}

/* ---- a copy ---- */

static gboolean fill_copy(const LayerLinks *f, int from, GError **error)
{
        g_autofree char *from_name = g_build_filename(f->dir, f->top, NULL);
        g_autofree char *to_name = g_build_filename(f->dir, f->next, NULL);
        scoped_fd int to =
                openat(f->dir_fd, f->next, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (to < 0)
                return moult_error_errno(error, errno, "making %s", to_name);
        return layer_copy(from, to, from_name, to_name, f->is_wanted, f->user, error);
}

static gboolean copy_top(const LayerLinks *f, GError **error)
{
        g_autoptr(GError) why = NULL;
        scoped_fd int from = open_image(f, f->top, &why);
        struct layer_look there;

        if (!look_at_names(f, &there, error))
                return FALSE;
        if (from < 0 || there.well_known != WELL_KNOWN_TOP) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                            "%s/%s is not the present top of the disk any more%s%s", f->dir, f->top,
                            why ? ": " : "", why ? why->message : "");
                return FALSE;
        }
        if (!layer_copy_judge(from, f->top, f->below, f->size, error) || !remove_next(f, error) ||
            !fill_copy(f, from, error))
                return FALSE;
        fault_point("layer-copied");
        return settle_image(f, error);
}

gboolean layer_links_do(const LayerLinks *f, enum layer_operation operation, int image,
                        struct layer_look *ret, GError **error)
{
        switch (operation) {
        case LAYER_LOOK:
                return look(f, ret, error);
        case LAYER_NAME_TOP:
                return name_top(f, error);
        case LAYER_MAKE_NEXT:
                return make_next(f, image, error);
        case LAYER_PLACE_NEXT:
                return place(f, f->next, error);
        case LAYER_PLACE_TOP:
                return place(f, f->top, error);
        case LAYER_REMOVE_NEXT:
                return remove_next(f, error);
        case LAYER_UNNAME_TOP:
                return unname_top(f, error);
        case LAYER_COPY_TOP:
                return copy_top(f, error);
        }
        g_assert_not_reached();
}
