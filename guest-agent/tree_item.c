/* guest-agent/tree_item.c - one object of the tree as the host hears of it. */
#include "guest-agent/tree_item.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/metadata.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "shm/entry_metadata.h"

/* Of one item: together with the rest of a page it must fit into a frame. */
#define XATTR_BYTES_MAX (256u * 1024u)

static ProtobufCBinaryData copy(const void *data, gsize len)
{
        return (ProtobufCBinaryData){len, len > 0 ? g_memdup2(data, len) : NULL};
}

static gboolean take_xattrs(Moult__TreeItem *item, const Metadata *m, GError **error)
{
        gsize bytes = 0;

        item->xattrs = g_new0(Moult__Xattr *, m->xattrs->len + 1);
        for (guint i = 0; i < m->xattrs->len; i++) {
                const struct metadata_xattr *x = &g_array_index(m->xattrs, struct metadata_xattr, i);
                gsize len;
                gconstpointer value = g_bytes_get_data(x->value, &len);
                Moult__Xattr *out = g_new(Moult__Xattr, 1);

                moult__xattr__init(out);
                out->name = copy(x->name, strlen(x->name));
                out->value = copy(value, len);
                item->xattrs[item->n_xattrs++] = out;
                bytes += len;
        }
        if (bytes <= XATTR_BYTES_MAX && item->n_xattrs <= LIMIT_XATTRS)
                return TRUE;
        g_autofree char *path = message_string(item->path);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "/%s has more extended attributes than a release can carry", path);
        return FALSE;
}

/* Nearly nothing has any: that is found out first. */
static gboolean read_xattrs(Moult__TreeItem *item, int dir_fd, const char *name, GError **error)
{
        const struct metadata_object object = {dir_fd, name, -1};
        const struct stat owner_and_mode_are_known = {0};
        int some = metadata_has_xattrs(&object);

        if (some == 0)
                return TRUE;
        if (some < 0)
                return moult_error_errno(error, errno, "listing the extended attributes of %s", name);
        g_autoptr(Metadata) m = metadata_read(&object, &owner_and_mode_are_known, error);
        return m && take_xattrs(item, m, error);
}

static gboolean read_link(Moult__TreeItem *item, int dir_fd, const char *name, GError **error)
{
        char text[LIMIT_PATH_BYTES + 1];
        ssize_t n = readlinkat(dir_fd, name, text, sizeof text);

        if (n < 0)
                return moult_error_errno(error, errno, "reading the symbolic link %s", name);
        item->link_target = copy(text, MIN((gsize)n, LIMIT_PATH_BYTES));
        return TRUE;
}

Moult__TreeItem *tree_item_read(int dir_fd, const char *name, const char *path, const struct statx *sx,
                                GError **error)
{
        Moult__TreeItem *item = g_new(Moult__TreeItem, 1);
        mode_t mode = sx->stx_mode;

        moult__tree_item__init(item);
        item->path = copy(path, strlen(path));
        item->type = entry_type_of_mode(mode);
        item->mode = S_ISLNK(mode) ? 0 : mode & 07777;
        item->uid = sx->stx_uid;
        item->gid = sx->stx_gid;
        item->mtime_s = sx->stx_mtime.tv_sec;
        item->mtime_ns = sx->stx_mtime.tv_nsec;
        item->size = S_ISREG(mode) ? sx->stx_size : 0;
        if (S_ISCHR(mode) || S_ISBLK(mode)) {
                item->dev_major = sx->stx_rdev_major;
                item->dev_minor = sx->stx_rdev_minor;
        }
        if (S_ISREG(mode)) {
                item->inode = sx->stx_ino;
                item->device = makedev(sx->stx_dev_major, sx->stx_dev_minor);
                item->names = sx->stx_nlink;
        }
        if (read_xattrs(item, dir_fd, name, error) &&
            (!S_ISLNK(mode) || read_link(item, dir_fd, name, error)))
                return item;
        tree_item_free(item);
        return NULL;
}

void tree_item_free(Moult__TreeItem *item)
{
        if (!item)
                return;
        for (size_t i = 0; i < item->n_xattrs; i++) {
                g_free(item->xattrs[i]->name.data);
                g_free(item->xattrs[i]->value.data);
                g_free(item->xattrs[i]);
        }
        g_free(item->xattrs);
        g_free(item->path.data);
        g_free(item->digest.data);
        g_free(item->link_target.data);
        g_free(item);
}

static gboolean is_as_listed(const Moult__TreeItem *item, int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_ino == item->inode &&
               (guint64)st.st_size == item->size && st.st_mtim.tv_sec == item->mtime_s &&
               (guint32)st.st_mtim.tv_nsec == item->mtime_ns;
}

gboolean tree_item_hash(Moult__TreeItem *item, int dir_fd, const char *name, Hasher *h, GError **error)
{
        scoped_fd int fd = openat(dir_fd, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
        guint8 digest[DIGEST_SIZE];
        g_autoptr(GError) own = NULL;

        if (fd < 0)
                return moult_error_errno(error, errno, "opening %s", name);
        if (is_as_listed(item, fd) && verity_digest_fd(h, fd, item->size, digest, NULL, &own) &&
            is_as_listed(item, fd)) {
                item->digest = copy(digest, sizeof digest);
                return TRUE;
        }
        if (own && !g_error_matches(own, MOULT_ERROR, MOULT_ERROR_CORRUPT))
                g_propagate_prefixed_error(error, g_steal_pointer(&own), "reading %s: ", name);
        else
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY, "%s changes while it is read", name);
        return FALSE;
}

static gboolean same_bytes(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
        return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static gboolean same_xattrs(const Moult__TreeItem *a, const Moult__TreeItem *b)
{
        if (a->n_xattrs != b->n_xattrs)
                return FALSE;
        for (size_t i = 0; i < a->n_xattrs; i++)
                if (!same_bytes(a->xattrs[i]->name, b->xattrs[i]->name) ||
                    !same_bytes(a->xattrs[i]->value, b->xattrs[i]->value))
                        return FALSE;
        return TRUE;
}

gboolean tree_item_same(const Moult__TreeItem *live, const Moult__TreeItem *base)
{
        return live->type == base->type && live->names <= 1 && base->names <= 1 && live->mode == base->mode &&
               live->uid == base->uid && live->gid == base->gid && live->size == base->size &&
               same_bytes(live->link_target, base->link_target) && live->dev_major == base->dev_major &&
               live->dev_minor == base->dev_minor && same_xattrs(live, base);
}

gboolean tree_item_same_times(const Moult__TreeItem *live, const Moult__TreeItem *base, gboolean hash)
{
        if (live->type != MOULT__ENTRY_TYPE__ENTRY_FILE)
                return TRUE;
        return !hash && live->mtime_s == base->mtime_s && live->mtime_ns == base->mtime_ns;
}

gboolean tree_item_same_content(const Moult__TreeItem *live, const Moult__TreeItem *base)
{
        return live->digest.len == DIGEST_SIZE && same_bytes(live->digest, base->digest);
}
