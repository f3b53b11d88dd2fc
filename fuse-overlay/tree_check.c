/* fuse-overlay/tree_check.c - is a tree on disk what its nodes say, and nothing more? */
#include "fuse-overlay/tree_check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/fd.h"
#include "fuse-overlay/tree_nodes.h"
#include "shm/entry_metadata.h"

static gboolean differs(GError **error, const struct tree_node *n, const char *how)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "the tree of the target is damaged: %s %s",
                    *n->path != '\0' ? n->path : "its top", how);
        return FALSE;
}

static gboolean has_content(const struct tree_node *n, int dirfd)
{
        const Moult__Entry *e = n->item.entry;
        guint8 digest[DIGEST_SIZE];
        scoped_fd int fd = openat(dirfd, n->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        g_autoptr(Hasher) h = hasher_new();
        return fd >= 0 && e->digest.len == DIGEST_SIZE &&
               verity_digest_fd(h, fd, e->size, digest, NULL, NULL) &&
               memcmp(digest, e->digest.data, DIGEST_SIZE) == 0;
}

static gboolean check_file(ObjectStore *s, const struct tree_node *n, int dirfd, const struct stat *st,
                           GError **error)
{
        struct stat object;
        scoped_fd int fd = object_store_open_object(s, n->item.entry, error);
        if (fd < 0)
                return FALSE;
        if (fstat(fd, &object) == 0 && object.st_ino == st->st_ino && object.st_dev == st->st_dev)
                return TRUE;
        /* A copy, as objects without room for more links have, or an object that was replaced since because
         * it was damaged: as good only if its content is, too. */
        g_autoptr(Metadata) want = metadata_from_entry(n->item.entry);
        struct metadata_object o = {dirfd, n->name, -1};
        if ((guint64)st->st_size == n->item.entry->size && metadata_verify(&o, S_IFREG, want, NULL) &&
            has_content(n, dirfd))
                return TRUE;
        return differs(error, n, "is neither its object nor a copy of it");
}

static gboolean check_special(const struct tree_node *n, int dirfd, const struct stat *st, GError **error)
{
        const Moult__Entry *e = n->item.entry;
        if (S_ISLNK(st->st_mode)) {
                char text[PATH_MAX];
                ssize_t len = readlinkat(dirfd, n->name, text, sizeof text);
                if (len < 0 || (size_t)len != e->link_target.len ||
                    memcmp(text, e->link_target.data, (size_t)len) != 0)
                        return differs(error, n, "leads elsewhere");
        }
        if ((S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) &&
            st->st_rdev != makedev(e->dev_major, e->dev_minor))
                return differs(error, n, "has another device number");
        return TRUE;
}

static gboolean check_opaque(const struct tree_node *n, int fd, GError **error)
{
        char value[2];
        ssize_t len = fgetxattr(fd, TREE_OPAQUE, value, sizeof value);
        gboolean want = n->listed && n->item.opaque, have = len == 1 && value[0] == 'y';
        if (want != have)
                return differs(error, n, want ? "is not opaque" : "is opaque");
        return TRUE;
}

static gboolean check_metadata(const struct tree_node *n, int dirfd, const struct stat *st, int original_fd,
                               GError **error)
{
        scoped_fd int fd = -1;
        const char *name = *n->name != '\0' ? n->name : ".";
        struct metadata_object o = {dirfd, name, -1};
        if (S_ISDIR(st->st_mode)) {
                fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0)
                        return moult_error_errno(error, errno, "opening %s", n->path);
                o = (struct metadata_object){.dirfd = -1, .name = n->path, .fd = fd};
                if (!check_opaque(n, fd, error))
                        return FALSE;
        }
        if (!n->listed && original_fd < 0)
                return TRUE; /* nothing to compare with */
        g_autoptr(Metadata) want = tree_node_metadata(n, original_fd, error);
        g_autoptr(GError) why = NULL;
        if (want == NULL)
                return FALSE;
        return metadata_verify(&o, st->st_mode & S_IFMT, want, &why) || differs(error, n, why->message);
}

static gboolean check_node(ObjectStore *s, struct tree_cursor *at, const struct tree_node *n, int original_fd,
                           gboolean *ret_there, GError **error)
{
        struct stat st;
        gboolean top = *n->name == '\0';
        *ret_there = tree_cursor_move(at, n, O_RDONLY) &&
                     fstatat(at->fd, top ? "." : n->name, &st, AT_SYMLINK_NOFOLLOW) == 0;
        if (!*ret_there) {
                /* Without the original it is not known whether a whiteout has a purpose, nor so what leads to
                 * it. Where there is something else below, that is missing as well. */
                if (original_fd < 0 && (tree_node_is_whiteout(n) || !n->listed))
                        return TRUE;
                return differs(error, n, "is missing");
        }
        if ((st.st_mode & S_IFMT) != tree_node_type(n))
                return differs(error, n, "is of another type");
        if (tree_node_is_whiteout(n))
                return st.st_rdev == makedev(0, 0) || differs(error, n, "is no whiteout");
        if (S_ISREG(st.st_mode))
                return check_file(s, n, at->fd, &st, error);
        if (!S_ISDIR(st.st_mode) && !check_special(n, at->fd, &st, error))
                return FALSE;
        return check_metadata(n, at->fd, &st, original_fd, error);
}

/* Names in a directory, without "." and "..". */
static gboolean count_names(int top_fd, const char *path, guint *count, GError **error)
{
        int fd = tree_open_directory(top_fd, path, O_RDONLY);
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        if (dir == NULL) {
                moult_error_errno(error, errno, "listing %s of a tree", path);
                if (fd >= 0)
                        close(fd);
                return FALSE;
        }
        struct dirent *de;
        while ((de = readdir(dir)) != NULL)
                *count += !g_str_equal(de->d_name, ".") && !g_str_equal(de->d_name, "..");
        closedir(dir);
        return TRUE;
}

gboolean tree_check(ObjectStore *s, GPtrArray *nodes, int original_fd, int top_fd, GError **error)
{
        g_auto(TreeCursor) at = {.top_fd = top_fd, .fd = -1};
        guint expected = 0, found = 0;
        for (guint i = 0; i < nodes->len; i++) {
                const struct tree_node *n = nodes->pdata[i];
                gboolean there;
                if (!check_node(s, &at, n, original_fd, &there, error))
                        return FALSE;
                expected += there && *n->path != '\0';
                if (there && S_ISDIR(tree_node_type(n)) && !count_names(top_fd, n->path, &found, error))
                        return FALSE;
        }
        if (expected == found)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "the tree of the target is damaged: it has %u names, not %u", found, expected);
        return FALSE;
}
