/* host-service/release/build_tree.c - what is in a directory tree: names and metadata as one sorted list. */
#include "host-service/release/build_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "host-service/release/build_xattr.h"
#include "proto/limits.h"

struct BuildTree {
        char *dir;
        int root_fd;                            /* -1 where there is a source */
        const struct build_tree_source *source; /* NULL: a directory */
        gpointer source_self;
        dev_t dev;     /* of all nodes from the source: no other tree has it */
        GArray *nodes; /* struct tree_node, sorted by path */
};

static void node_clear(gpointer data)
{
        struct tree_node *n = data;

        for (unsigned i = 0; i < n->n_xattrs; i++) {
                g_free(n->xattrs[i].name);
                g_bytes_unref(n->xattrs[i].value);
        }
        g_free(n->xattrs);
        g_free(n->link_text);
        g_free(n->path);
}

void build_tree_free(BuildTree *t)
{
        if (!t)
                return;
        if (t->root_fd >= 0)
                close(t->root_fd);
        if (t->source)
                t->source->free(t->source_self);
        g_clear_pointer(&t->nodes, g_array_unref);
        g_free(t->dir);
        g_free(t);
}

const char *build_tree_dir(const BuildTree *t)
{
        return t->dir;
}

unsigned build_tree_count(const BuildTree *t)
{
        return t->nodes->len;
}

const struct tree_node *build_tree_node(const BuildTree *t, unsigned index)
{
        return &g_array_index(t->nodes, struct tree_node, index);
}

void build_tree_set_digest(BuildTree *t, unsigned index, const uint8_t digest[static DIGEST_SIZE])
{
        struct tree_node *n = &g_array_index(t->nodes, struct tree_node, index);

        memcpy(n->digest, digest, DIGEST_SIZE);
        n->has_digest = true;
}

gssize build_tree_find(const BuildTree *t, const char *path)
{
        guint lo = 0, hi = t->nodes->len;

        while (lo < hi) {
                guint mid = lo + (hi - lo) / 2;
                int c = strcmp(path, build_tree_node(t, mid)->path);

                if (c == 0)
                        return mid;
                if (c < 0)
                        hi = mid;
                else
                        lo = mid + 1;
        }
        return -1;
}

bool build_tree_excludes(const char *const *globs, const char *path)
{
        const char *slash = strrchr(path, '/');
        const char *last = slash ? slash + 1 : path;

        for (unsigned i = 0; globs && globs[i]; i++) {
                const char *g = globs[i];

                if (strchr(g, '/')) {
                        while (*g == '/')
                                g++;
                        if (fnmatch(g, path, FNM_PATHNAME) == 0)
                                return true;
                } else if (fnmatch(g, last, 0) == 0) {
                        return true;
                }
        }
        return false;
}

/* No links, no mounts: what is opened lies in the given tree, whatever somebody does to it meanwhile. */
static int open_inside(int root_fd, const char *path, int flags)
{
        struct open_how how = {
                .flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
        };
        long fd;

        do
                fd = syscall(SYS_openat2, root_fd, path, &how, sizeof how);
        while (fd < 0 && (errno == EINTR || errno == EAGAIN));
        return (int)fd;
}

static const char *kind_refusal(mode_t mode)
{
        switch (mode & S_IFMT) {
        case S_IFREG:
        case S_IFDIR:
        case S_IFLNK:
        case S_IFCHR:
        case S_IFBLK:
        case S_IFIFO:
                return NULL;
        case S_IFSOCK:
                return "is a socket: sockets are made by the program that listens on them and cannot be in a "
                       "release; leave it out with --exclude";
        default:
                return "is of a kind that a release cannot hold; leave it out with --exclude";
        }
}

static gboolean read_link_text(int dirfd, const char *name, struct tree_node *n, GError **error)
{
        g_autofree char *text = g_malloc(LIMIT_PATH_BYTES + 1);
        ssize_t len = readlinkat(dirfd, name, text, LIMIT_PATH_BYTES + 1);

        if (len < 0)
                return moult_error_errno(error, errno, "reading the symbolic link %s", n->path);
        if (len == 0 || len > (ssize_t)LIMIT_PATH_BYTES) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s: the symbolic link's text is empty or longer than %u bytes", n->path,
                            LIMIT_PATH_BYTES);
                return FALSE;
        }
        text[len] = '\0';
        n->link_text = g_steal_pointer(&text);
        return TRUE;
}

/* Fills @n (its path is set) from the directory entry @name in @dirfd. */
static gboolean node_read(struct tree_node *n, int dirfd, const char *name,
                          const struct build_tree_options *options, GError **error)
{
        struct stat st;

        if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return moult_error_errno(error, errno, "looking at %s", n->path);
        const char *why = kind_refusal(st.st_mode);
        if (!why)
                why = fs_path_refusal((const guint8 *)n->path, strlen(n->path));
        if (why) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s %s", n->path, why);
                return FALSE;
        }

        n->mode = st.st_mode;
        n->uid = options->owner_root ? 0 : st.st_uid;
        n->gid = options->owner_root ? 0 : st.st_gid;
        n->mtime = st.st_mtim;
        n->ctime = st.st_ctim;
        n->size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
        n->dev = st.st_dev;
        n->ino = st.st_ino;
        n->rdev = st.st_rdev;
        if (S_ISLNK(st.st_mode) && !read_link_text(dirfd, name, n, error))
                return FALSE;
        return build_xattr_read(dirfd, name, n, options->exclude_xattr, error);
}

/* What a capture does not even look at. What cannot be looked at is node_read()'s to tell. */
static bool is_passed_over(const struct build_tree_options *options, int dirfd, const char *name,
                           const char *path)
{
        struct stat st;

        if ((!options->per_vm && !options->skip_sockets) ||
            fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return false;
        if (S_ISSOCK(st.st_mode))
                return options->skip_sockets;
        return S_ISDIR(st.st_mode) && options->per_vm &&
               per_vm_list_directory_reason(options->per_vm, path) != NULL;
}

/* One directory: its nodes are appended, its subdirectories queued. */
static gboolean scan_directory(BuildTree *t, const char *path, const struct build_tree_options *options,
                               GQueue *pending, GError **error)
{
        int fd = open_inside(t->root_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY);

        if (fd < 0 && errno == EXDEV) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s in %s is a mount point of something else: unmount it, or leave it out with "
                            "--exclude /%s",
                            path, t->dir, path);
                return FALSE;
        }
        if (fd < 0)
                return moult_error_errno(error, errno, "opening the directory %s in %s", *path ? path : ".",
                                         t->dir);
        DIR *d = fdopendir(fd);
        if (!d) {
                int e = errno;

                close(fd);
                return moult_error_errno(error, e, "reading the directory %s in %s", *path ? path : ".",
                                         t->dir);
        }

        gboolean ok = TRUE;
        struct dirent *de;
        while (ok && (errno = 0, de = readdir(d)) != NULL) {
                if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
                        continue;
                g_autofree char *child =
                        *path ? g_strconcat(path, "/", de->d_name, NULL) : g_strdup(de->d_name);
                if (build_tree_excludes(options->exclude, child))
                        continue;
                if (t->nodes->len >= LIMIT_ENTRIES) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "%s holds more than %u entries, the most that a release may have", t->dir,
                                    LIMIT_ENTRIES);
                        ok = FALSE;
                        break;
                }
                if (is_passed_over(options, dirfd(d), de->d_name, child))
                        continue;
                struct tree_node node = {.path = g_steal_pointer(&child)};
                ok = node_read(&node, dirfd(d), de->d_name, options, error);
                if (ok && S_ISDIR(node.mode))
                        g_queue_push_tail(pending, g_strdup(node.path));
                if (ok)
                        g_array_append_val(t->nodes, node);
                else
                        node_clear(&node);
        }
        if (ok && errno != 0)
                ok = moult_error_errno(error, errno, "reading the directory %s in %s", *path ? path : ".",
                                       t->dir);
        closedir(d);
        return ok;
}

static gint compare_nodes(gconstpointer a, gconstpointer b)
{
        return strcmp(((const struct tree_node *)a)->path, ((const struct tree_node *)b)->path);
}

static guint inode_hash(gconstpointer key)
{
        const struct tree_node *n = key;

        return (guint)(n->ino ^ (n->ino >> 32) ^ n->dev);
}

static gboolean inode_equal(gconstpointer a, gconstpointer b)
{
        const struct tree_node *x = a, *y = b;

        return x->ino == y->ino && x->dev == y->dev;
}

/* Names of one regular file become a group led by the first of them in path order, so that the choice does
 * not depend on the order in which the directory was read. Other kinds carry no content: each name stands
 * alone. */
static void find_hard_links(BuildTree *t)
{
        g_autoptr(GHashTable) leaders = g_hash_table_new(inode_hash, inode_equal);

        for (guint i = 0; i < t->nodes->len; i++) {
                struct tree_node *n = &g_array_index(t->nodes, struct tree_node, i);
                struct tree_node *first = S_ISREG(n->mode) ? g_hash_table_lookup(leaders, n) : NULL;

                n->leader = first ? first->leader : i;
                if (first)
                        first->n_names++;
                else if (S_ISREG(n->mode))
                        g_hash_table_add(leaders, n);
                if (!first)
                        n->n_names = 1;
        }
        for (guint i = 0; i < t->nodes->len; i++) {
                struct tree_node *n = &g_array_index(t->nodes, struct tree_node, i);

                n->n_names = build_tree_node(t, n->leader)->n_names;
        }
}

BuildTree *build_tree_scan(const char *dir, const struct build_tree_options *options,
                           GCancellable *cancellable, GError **error)
{
        g_autoptr(BuildTree) t = g_new0(BuildTree, 1);

        t->dir = g_strdup(dir);
        t->nodes = g_array_new(FALSE, TRUE, sizeof(struct tree_node));
        g_array_set_clear_func(t->nodes, node_clear);
        t->root_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (t->root_fd < 0) {
                moult_error_errno(error, errno, "opening the directory %s", dir);
                return NULL;
        }

        g_autoptr(GQueue) pending = g_queue_new();
        gboolean ok = TRUE;
        g_queue_push_tail(pending, g_strdup(""));
        while (ok && !g_queue_is_empty(pending)) {
                g_autofree char *path = g_queue_pop_head(pending);

                ok = !g_cancellable_set_error_if_cancelled(cancellable, error) &&
                     scan_directory(t, path, options, pending, error);
        }
        g_queue_clear_full(pending, g_free);
        if (!ok)
                return NULL;

        build_tree_finish(t);
        return g_steal_pointer(&t);
}

BuildTree *build_tree_new(const char *name, const struct build_tree_source *source, gpointer self)
{
        static gint made; /* device numbers that no kernel gives */
        BuildTree *t = g_new0(BuildTree, 1);

        t->dir = g_strdup(name);
        t->root_fd = -1;
        t->source = source;
        t->source_self = self;
        t->dev = ~(dev_t)g_atomic_int_add(&made, 1);
        t->nodes = g_array_new(FALSE, TRUE, sizeof(struct tree_node));
        g_array_set_clear_func(t->nodes, node_clear);
        return t;
}

void build_tree_add(BuildTree *t, const struct tree_node *n)
{
        g_array_append_vals(t->nodes, n, 1);
        if (n->dev == 0)
                g_array_index(t->nodes, struct tree_node, t->nodes->len - 1).dev = t->dev;
}

void build_tree_finish(BuildTree *t)
{
        g_array_sort(t->nodes, compare_nodes);
        find_hard_links(t);
}

static gboolean is_as_seen(const struct tree_node *n, const struct stat *st)
{
        return st->st_dev == n->dev && st->st_ino == n->ino && (uint64_t)st->st_size == n->size &&
               st->st_mtim.tv_sec == n->mtime.tv_sec && st->st_mtim.tv_nsec == n->mtime.tv_nsec &&
               st->st_ctim.tv_sec == n->ctime.tv_sec && st->st_ctim.tv_nsec == n->ctime.tv_nsec;
}

gboolean build_tree_still(const BuildTree *t, unsigned index, int fd, GError **error)
{
        const struct tree_node *n = build_tree_node(t, index);
        struct stat st;

        if (t->source)
                return TRUE; /* a copy of our own */
        if (fstat(fd, &st) < 0)
                return moult_error_errno(error, errno, "looking at %s in %s", n->path, t->dir);
        if (is_as_seen(n, &st))
                return TRUE;
        g_set_error(
                error, MOULT_ERROR, MOULT_ERROR_BUSY,
                "%s in %s was changed while the release was being built: nothing was written; build again "
                "when nobody works on the directory",
                n->path, t->dir);
        return FALSE;
}

void build_tree_expect(const BuildTree *t, const GArray *indices)
{
        g_autoptr(GPtrArray) nodes = g_ptr_array_new();

        if (!t->source || !t->source->expect)
                return;
        for (guint i = 0; i < indices->len; i++)
                g_ptr_array_add(nodes, (gpointer)build_tree_node(t, g_array_index(indices, guint, i)));
        t->source->expect(t->source_self, (const struct tree_node *const *)nodes->pdata, nodes->len);
}

int build_tree_open(const BuildTree *t, unsigned index, GError **error)
{
        const struct tree_node *n = build_tree_node(t, index);
        if (t->source)
                return t->source->open(t->source_self, n, error);
        scoped_fd int fd = open_inside(t->root_fd, n->path, O_RDONLY | O_NONBLOCK);

        if (fd < 0 && errno == EXDEV) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s in %s is a mount point of something else: unmount it, or leave it out with "
                            "--exclude /%s",
                            n->path, t->dir, n->path);
                return -1;
        }
        if (fd < 0) {
                moult_error_errno(error, errno, "opening %s in %s", n->path, t->dir);
                return -1;
        }
        if (!build_tree_still(t, index, fd, error))
                return -1;
        return g_steal_fd(&fd);
}

bool tree_node_same_metadata(const struct tree_node *a, const struct tree_node *b)
{
        if ((a->mode & 07777) != (b->mode & 07777) && !S_ISLNK(a->mode))
                return false;
        if (a->uid != b->uid || a->gid != b->gid || a->n_xattrs != b->n_xattrs)
                return false;
        for (unsigned i = 0; i < a->n_xattrs; i++)
                if (strcmp(a->xattrs[i].name, b->xattrs[i].name) != 0 ||
                    !g_bytes_equal(a->xattrs[i].value, b->xattrs[i].value))
                        return false;
        return true;
}
