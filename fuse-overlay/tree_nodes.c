/* fuse-overlay/tree_nodes.c - what the tree of one merge consists of: its items, and the directories that
 * lead to them. */
#include "fuse-overlay/tree_nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "shm/entry_metadata.h"

#define ATTEMPTS 32 /* the kernel answers EAGAIN when something was renamed meanwhile */

int tree_open_directory(int dirfd, const char *path, int flags)
{
        struct open_how how = {
                .flags = (guint64)(guint)(flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
        };
        long fd = -1;
        for (int i = 0; i < ATTEMPTS; i++) {
                fd = syscall(SYS_openat2, dirfd, *path != '\0' ? path : ".", &how, sizeof how);
                if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
                        break;
        }
        return (int)fd;
}

static void node_free(gpointer p)
{
        struct tree_node *n = p;
        g_free(n->path);
        g_free(n);
}

static struct tree_node *node_new(const char *path, gsize len)
{
        struct tree_node *n = g_new0(struct tree_node, 1);
        n->path = g_strndup(path, len);
        const char *slash = strrchr(n->path, '/');
        n->name = slash != NULL ? slash + 1 : n->path;
        return n;
}

void tree_cursor_clear(struct tree_cursor *c)
{
        if (c->fd >= 0)
                close(c->fd);
        g_free(c->dir);
}

gboolean tree_cursor_move(struct tree_cursor *c, const struct tree_node *n, int flags)
{
        gsize len = (gsize)(n->name - n->path);
        len -= len > 0; /* the '/' */
        if (c->fd >= 0 && strlen(c->dir) == len && memcmp(c->dir, n->path, len) == 0)
                return TRUE;
        if (c->fd >= 0)
                close(c->fd);
        g_free(c->dir);
        c->dir = g_strndup(n->path, len);
        c->fd = tree_open_directory(c->top_fd, c->dir, flags);
        return c->fd >= 0;
}

mode_t tree_node_type(const struct tree_node *n)
{
        if (!n->listed)
                return S_IFDIR;
        switch (n->item.entry->type) {
        case MOULT__ENTRY_TYPE__ENTRY_FILE:
                return S_IFREG;
        case MOULT__ENTRY_TYPE__ENTRY_DIRECTORY:
                return S_IFDIR;
        case MOULT__ENTRY_TYPE__ENTRY_SYMLINK:
                return S_IFLNK;
        case MOULT__ENTRY_TYPE__ENTRY_BLOCK_DEVICE:
                return S_IFBLK;
        case MOULT__ENTRY_TYPE__ENTRY_FIFO:
                return S_IFIFO;
        default: /* a device, or a whiteout */
                return S_IFCHR;
        }
}

gboolean tree_node_is_whiteout(const struct tree_node *n)
{
        return n->listed && n->item.entry->type == MOULT__ENTRY_TYPE__ENTRY_DELETE;
}

static gboolean is_not_there(int errnum)
{
        /* A link or a file on the way; or another mount, of which nothing is deleted. */
        return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP || errnum == EXDEV;
}

/* Is there something to hide? */
static gboolean original_has(struct tree_cursor *at, const struct tree_node *n, gboolean *ret, GError **error)
{
        struct stat st;
        *ret = tree_cursor_move(at, n, O_PATH) && fstatat(at->fd, n->name, &st, AT_SYMLINK_NOFOLLOW) == 0;
        return *ret || is_not_there(errno) ||
               moult_error_errno(error, errno, "looking at %s of the original", n->path);
}

/* The directories between the merge and @path that are not in the list yet. In the order of paths, what the
 * last node shares with @path is there. */
static void add_parents(GPtrArray *nodes, const char *path)
{
        const char *last = ((const struct tree_node *)nodes->pdata[nodes->len - 1])->path;
        gsize common = 0;
        while (last[common] != '\0' && last[common] == path[common])
                common++;
        gboolean last_is_above = last[common] == '\0';
        for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
                gsize len = (gsize)(slash - path);
                if (len > common || (len == common && !last_is_above))
                        g_ptr_array_add(nodes, node_new(path, len));
        }
}

GPtrArray *tree_nodes(const Target *t, const struct target_merge *m, int original_fd, GError **error)
{
        const struct target_merge with_mount = {m->path, m->reach, target_merge_mount(t, m)};
        const struct target_merge *merge = &with_mount;
        g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(node_free);
        g_auto(TreeCursor) at = {.top_fd = original_fd, .fd = -1};
        gsize prefix = strlen(merge->path);
        g_ptr_array_add(nodes, node_new("", 0));
        guint first, n = target_below(t, merge->path, &first);
        for (guint i = first; i < first + n; i++) {
                struct target_item item = target_get(t, i);
                if (!target_merge_serves(t, merge, &item))
                        continue;
                if (item.path[prefix] == '\0') { /* the merge's own directory */
                        struct tree_node *top = nodes->pdata[0];
                        top->listed = TRUE;
                        top->item = item;
                        continue;
                }
                const char *path = item.path + prefix + 1;
                struct tree_node *node = node_new(path, strlen(path));
                node->listed = TRUE;
                node->item = item;
                gboolean has = TRUE;
                if (original_fd >= 0 && item.entry->type == MOULT__ENTRY_TYPE__ENTRY_DELETE &&
                    !original_has(&at, node, &has, error)) {
                        node_free(node);
                        return NULL;
                }
                if (!has) {
                        node_free(node);
                        continue;
                }
                add_parents(nodes, path);
                g_ptr_array_add(nodes, node);
        }
        return g_steal_pointer(&nodes);
}

/* --- metadata of directories that the target does not list */

static gboolean is_inherited(const char *name)
{
        static const char *const left_out[] = {"trusted.overlay.", "security.evm", "security.ima"};
        for (guint i = 0; i < G_N_ELEMENTS(left_out); i++)
                if (g_str_has_prefix(name, left_out[i]))
                        return FALSE;
        return g_str_has_prefix(name, "user.") || g_str_has_prefix(name, "trusted.") ||
               g_str_has_prefix(name, "security.") || g_str_has_prefix(name, "system.posix_acl_");
}

Metadata *tree_original_metadata(int original_fd, const char *path, GError **error)
{
        scoped_fd int fd = original_fd >= 0 ? tree_open_directory(original_fd, path, O_RDONLY) : -1;
        if (fd < 0) {
                if (original_fd >= 0 && !is_not_there(errno)) {
                        moult_error_errno(error, errno, "opening the directory %s of the original", path);
                        return NULL;
                }
                Metadata *m = metadata_new();
                m->mode = 0755;
                return m;
        }
        struct metadata_object o = {.dirfd = -1, .name = path, .fd = fd};
        Metadata *m = metadata_read(&o, NULL, error);
        if (m == NULL)
                return NULL;
        for (guint i = m->xattrs->len; i > 0; i--)
                if (!is_inherited(g_array_index(m->xattrs, struct metadata_xattr, i - 1).name))
                        g_array_remove_index(m->xattrs, i - 1);
        return m;
}

Metadata *tree_node_metadata(const struct tree_node *n, int original_fd, GError **error)
{
        return n->listed ? metadata_from_entry(n->item.entry)
                         : tree_original_metadata(original_fd, n->path, error);
}
