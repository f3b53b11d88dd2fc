/* fuse-overlay/target_tree.c - the part of a target below one merge as a directory tree, for overlayfs.
 *
 * Theory of operation: made under a temporary name, parents first, each directory complete before something
 * is made in it (a new directory takes its label from the one above); then the times of directories, which
 * what was made in them has moved; then one rename. Files are hard links of objects, so a tree costs no
 * space, and no call for each byte. A kill leaves a temporary name, which the next making of this tree or the
 * next collection removes. Nothing is synced here. */
#include "fuse-overlay/target_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "common/remove_tree.h"
#include "fuse-overlay/tree_check.h"
#include "fuse-overlay/tree_nodes.h"

#define TEMPORARY "new-" /* no id has a '-' */
#define STALE     "stale-"

static int open_trees(ObjectStore *s, GError **error)
{
        int target_fd = object_store_target_fd(s);
        if (mkdirat(target_fd, "trees", 0700) < 0 && errno != EEXIST) {
                moult_error_errno(error, errno, "making the directory trees of the target store");
                return -1;
        }
        int fd = openat(target_fd, "trees", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                moult_error_errno(error, errno, "opening the directory trees of the target store");
        return fd;
}

/* --- making */

struct making {
        ObjectStore *store;
        GPtrArray *nodes;
        GPtrArray *metadata; /* Metadata of each node, NULL for files and whiteouts */
        int original_fd;
        struct tree_cursor at;
};

static gboolean finish(int dirfd, const char *name, mode_t type, const struct tree_node *n,
                       const Metadata *want, GError **error)
{
        scoped_fd int fd = -1;
        struct metadata_object o = {dirfd, name, -1}, parent = {.dirfd = -1, .name = "..", .fd = dirfd};
        if (S_ISDIR(type)) {
                fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0)
                        return moult_error_errno(error, errno, "opening the new directory %s", n->path);
                o = (struct metadata_object){.dirfd = -1, .name = n->path, .fd = fd};
        }
        gboolean is_top = *n->path == '\0';
        if (!is_top && !metadata_has_label(want) && !metadata_copy_label(&parent, &o, error))
                return FALSE;
        /* Not fresh: the directory may have handed down a group or an ACL. */
        if (!metadata_apply(&o, type, want, /* fresh= */ FALSE, error) ||
            !metadata_verify(&o, type, want, error))
                return FALSE;
        if (n->listed && n->item.opaque && fsetxattr(fd, TREE_OPAQUE, "y", 1, 0) < 0)
                return moult_error_errno(error, errno, "marking the directory %s opaque", n->path);
        return TRUE;
}

static int make_object(int dirfd, const char *name, mode_t type, const Moult__Entry *e)
{
        switch (type) {
        case S_IFDIR:
                return mkdirat(dirfd, name, 0700);
        case S_IFLNK:
                /* Bytes of an item end in NUL. */
                return symlinkat((const char *)e->link_target.data, dirfd, name);
        case S_IFIFO:
                return mkfifoat(dirfd, name, 0600);
        default:
                return mknodat(dirfd, name, type | 0600, makedev(e->dev_major, e->dev_minor));
        }
}

static gboolean make_node(struct making *m, guint i, GError **error)
{
        const struct tree_node *n = m->nodes->pdata[i];
        mode_t type = tree_node_type(n);
        int fake = fault_point("tree-node");
        if (fake != 0 || !tree_cursor_move(&m->at, n, O_RDONLY))
                return moult_error_errno(error, fake != 0 ? fake : errno, "making %s", n->path);
        if (S_ISREG(type))
                return object_store_link(m->store, n->item.entry, m->at.fd, n->name, error);
        const Moult__Entry *e = n->listed ? n->item.entry : NULL;
        if (tree_node_is_whiteout(n)) /* its metadata is never seen */
                return mknodat(m->at.fd, n->name, S_IFCHR, makedev(0, 0)) == 0 ||
                       moult_error_errno(error, errno, "making the whiteout of %s", n->path);
        if (make_object(m->at.fd, n->name, type, e) < 0)
                return moult_error_errno(error, errno, "making %s", n->path);
        Metadata *want = tree_node_metadata(n, m->original_fd, error);
        if (want == NULL)
                return FALSE;
        m->metadata->pdata[i] = want;
        return finish(m->at.fd, n->name, type, n, want, error);
}

static gboolean make_top(struct making *m, int trees_fd, const char *name, GError **error)
{
        const struct tree_node *top = m->nodes->pdata[0];
        if (mkdirat(trees_fd, name, 0700) < 0)
                return moult_error_errno(error, errno, "making the tree %s", name);
        Metadata *want = tree_node_metadata(top, m->original_fd, error);
        if (want == NULL)
                return FALSE;
        m->metadata->pdata[0] = want;
        m->at.top_fd = openat(trees_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (m->at.top_fd < 0)
                return moult_error_errno(error, errno, "opening the tree %s", name);
        return finish(trees_fd, name, S_IFDIR, top, want, error);
}

static gboolean set_times(struct making *m, GError **error)
{
        for (guint i = m->nodes->len; i > 0; i--) {
                const struct tree_node *n = m->nodes->pdata[i - 1];
                const Metadata *want = m->metadata->pdata[i - 1];
                if (!S_ISDIR(tree_node_type(n)) || want == NULL)
                        continue;
                scoped_fd int fd = tree_open_directory(m->at.top_fd, n->path, O_RDONLY);
                if (fd < 0)
                        return moult_error_errno(error, errno, "opening the new directory %s", n->path);
                struct metadata_object o = {.dirfd = -1, .name = n->path, .fd = fd};
                if (!metadata_set_mtime(&o, &want->mtime, error))
                        return FALSE;
        }
        return TRUE;
}

static gboolean make_nodes(struct making *m, int trees_fd, const char *name, GCancellable *cancellable,
                           GError **error)
{
        if (!make_top(m, trees_fd, name, error))
                return FALSE;
        for (guint i = 1; i < m->nodes->len; i++)
                if (g_cancellable_set_error_if_cancelled(cancellable, error) || !make_node(m, i, error))
                        return FALSE;
        return set_times(m, error);
}

static void metadata_release(gpointer p)
{
        metadata_free(p);
}

static gboolean make_tree(ObjectStore *s, GPtrArray *nodes, int original_fd, int trees_fd, const char *name,
                          GCancellable *cancellable, GError **error)
{
        struct making m = {
                .store = s,
                .nodes = nodes,
                .metadata = g_ptr_array_new_with_free_func(metadata_release),
                .original_fd = original_fd,
                .at = {.top_fd = -1, .fd = -1},
        };
        g_ptr_array_set_size(m.metadata, (gint)nodes->len);
        gboolean ok = make_nodes(&m, trees_fd, name, cancellable, error);
        g_ptr_array_unref(m.metadata);
        if (m.at.top_fd >= 0)
                close(m.at.top_fd);
        tree_cursor_clear(&m.at);
        return ok;
}

/* --- by id */

static int open_tree(int trees_fd, const char *id, int flags)
{
        return openat(trees_fd, id, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* What is there and is not as it should be goes aside; what has it open keeps it until the collection. */
static gboolean put_aside(int trees_fd, const char *id, GError **error)
{
        for (int i = 0; i < 100; i++) {
                g_autofree char *aside = g_strdup_printf(STALE "%s-%08x", id, g_random_int());
                if (renameat2(trees_fd, id, trees_fd, aside, RENAME_NOREPLACE) == 0)
                        return TRUE;
                if (errno != EEXIST)
                        break;
        }
        return moult_error_errno(error, errno, "putting the damaged tree %s aside", id);
}

static gboolean is_good(ObjectStore *s, GPtrArray *nodes, int original_fd, int trees_fd, const char *id,
                        gboolean *ret_there)
{
        scoped_fd int fd = open_tree(trees_fd, id, O_RDONLY);
        g_autoptr(GError) why = NULL;
        *ret_there = fd >= 0 || errno != ENOENT;
        if (fd < 0)
                return FALSE;
        if (tree_check(s, nodes, original_fd, fd, &why))
                return TRUE;
        g_debug("tree %s is made again: %s", id, why->message);
        return FALSE;
}

gboolean target_tree_make(ObjectStore *s, const Target *t, const struct target_merge *merge, int original_fd,
                          GCancellable *cancellable, GError **error)
{
        char id[TARGET_ID_LENGTH + 1];
        target_id(t, merge, id);
        scoped_fd int trees_fd = open_trees(s, error);
        g_autoptr(GPtrArray) nodes = trees_fd >= 0 ? tree_nodes(t, merge, original_fd, error) : NULL;
        if (nodes == NULL)
                return FALSE;
        gboolean there;
        if (is_good(s, nodes, original_fd, trees_fd, id, &there))
                return TRUE;
        if (there && !put_aside(trees_fd, id, error))
                return FALSE;
        g_autofree char *temporary = g_strconcat(TEMPORARY, id, NULL);
        int fake = fault_point("tree-begin");
        gboolean ok = fake == 0 || moult_error_errno(error, fake, "beginning a tree");
        ok = ok && remove_tree(trees_fd, temporary, error) &&
             make_tree(s, nodes, original_fd, trees_fd, temporary, cancellable, error);
        fake = ok ? fault_point("tree-made") : 0;
        if (ok && (fake != 0 || renameat2(trees_fd, temporary, trees_fd, id, RENAME_NOREPLACE) < 0))
                ok = moult_error_errno(error, fake != 0 ? fake : errno, "giving it its name");
        if (ok)
                return TRUE;
        g_prefix_error(error, "making the tree of /%s: ", merge->path);
        remove_tree(trees_fd, temporary, NULL);
        return FALSE;
}

int target_tree_open(ObjectStore *s, const Target *t, const struct target_merge *merge, GError **error)
{
        char id[TARGET_ID_LENGTH + 1];
        target_id(t, merge, id);
        scoped_fd int trees_fd = open_trees(s, error);
        if (trees_fd < 0)
                return -1;
        int fd = open_tree(trees_fd, id, O_PATH);
        if (fd < 0)
                moult_error_errno(error, errno, "opening the tree %s of /%s", id, merge->path);
        return fd;
}

gboolean target_tree_check(ObjectStore *s, const Target *t, const struct target_merge *merge, GError **error)
{
        char id[TARGET_ID_LENGTH + 1];
        target_id(t, merge, id);
        scoped_fd int trees_fd = open_trees(s, error);
        if (trees_fd < 0)
                return FALSE;
        scoped_fd int fd = open_tree(trees_fd, id, O_RDONLY);
        if (fd < 0)
                return moult_error_errno(error, errno, "opening the tree %s of /%s", id, merge->path);
        g_autoptr(GPtrArray) nodes = tree_nodes(t, merge, -1, error);
        return nodes != NULL && tree_check(s, nodes, -1, fd, error);
}

gboolean target_tree_collect(ObjectStore *s, GHashTable *keep, GError **error)
{
        scoped_fd int trees_fd = open_trees(s, error);
        if (trees_fd < 0)
                return FALSE;
        int fake = fault_point("tree-collect");
        if (fake != 0)
                return moult_error_errno(error, fake, "removing trees that are not needed");
        return remove_tree_children(trees_fd, keep, error);
}
