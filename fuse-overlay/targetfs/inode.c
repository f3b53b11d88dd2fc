/* fuse-overlay/targetfs/inode.c - names become objects of the target, of the original, or of both. */
#include "fuse-overlay/targetfs/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/error.h"

struct InodeTable {
        const NameTree *names;
        int original_fd;
        Inode *root;
        struct inode_events events;
        gpointer user;
        dev_t device;        /* of the original's root */
        GMutex lock;         /* of all below, and of every inode's refs */
        GHashTable *known;   /* st_ino -> Inode */
        GHashTable *foreign; /* struct original -> its number here */
};

/* For what is not on the root's device, as in btrfs' subvolumes and overlayfs; far from where any file
 * system's own numbers end up. */
#define FOREIGN_FIRST (UINT64_C(1) << 63)

static const mode_t types[] = {
        [MOULT__ENTRY_TYPE__ENTRY_FILE] = S_IFREG,        [MOULT__ENTRY_TYPE__ENTRY_DIRECTORY] = S_IFDIR,
        [MOULT__ENTRY_TYPE__ENTRY_SYMLINK] = S_IFLNK,     [MOULT__ENTRY_TYPE__ENTRY_HARDLINK] = S_IFREG,
        [MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE] = S_IFCHR, [MOULT__ENTRY_TYPE__ENTRY_BLOCK_DEVICE] = S_IFBLK,
        [MOULT__ENTRY_TYPE__ENTRY_FIFO] = S_IFIFO,
};

/* --- attributes --- */

static void stat_of_entry(const Moult__Entry *e, struct stat *st)
{
        st->st_mode = types[e->type] | (e->mode & 07777);
        if (S_ISLNK(st->st_mode))
                st->st_mode |= 0777;
        st->st_uid = e->uid;
        st->st_gid = e->gid;
        st->st_mtim = (struct timespec){.tv_sec = e->mtime_s, .tv_nsec = (long)e->mtime_ns};
        st->st_ctim = st->st_atim = st->st_mtim;
        if (S_ISREG(st->st_mode))
                st->st_size = (off_t)e->size;
        else if (S_ISLNK(st->st_mode))
                st->st_size = (off_t)e->link_target.len;
        else if (!S_ISDIR(st->st_mode))
                st->st_size = 0;
        if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
                st->st_rdev = makedev(e->dev_major, e->dev_minor);
}

static guint original_hash(gconstpointer p)
{
        const struct original *o = p;
        return g_int64_hash(&o->inode) ^ g_int64_hash(&o->device);
}

static gboolean original_equal(gconstpointer a, gconstpointer b)
{
        const struct original *x = a, *y = b;
        return x->device == y->device && x->inode == y->inode;
}

/* The number that an object of the original has here. */
static guint64 original_number(InodeTable *t, const struct stat *st)
{
        if (st->st_dev == t->device)
                return name_tree_original_inode(st->st_ino);
        struct original o = {st->st_dev, st->st_ino};
        g_mutex_lock(&t->lock);
        guint64 *number = g_hash_table_lookup(t->foreign, &o);
        if (number == NULL) {
                number = g_new(guint64, 1);
                *number = FOREIGN_FIRST + g_hash_table_size(t->foreign);
                g_hash_table_insert(t->foreign, g_memdup2(&o, sizeof o), number);
        }
        guint64 ret = *number;
        g_mutex_unlock(&t->lock);
        return ret;
}

/* @original: NULL if there is none. */
static struct stat stat_of_node(InodeTable *t, guint32 node, const struct stat *original)
{
        const NameTree *names = t->names;
        const Moult__Entry *e = name_tree_entry(names, node);
        struct stat st = {.st_mode = S_IFDIR | 0755, .st_blksize = 4096};

        if (original != NULL) {
                st = *original;
                st.st_ino = original_number(t, original);
        } else {
                st.st_ino = name_tree_inode(names, node);
        }
        if (e != NULL)
                stat_of_entry(e, &st);
        if (original == NULL)
                st.st_blocks = (st.st_size + 511) / 512;
        /* 1 says that the number of subdirectories is not known; find(1) and others understand that. */
        st.st_nlink = S_ISDIR(st.st_mode) ? 1 : name_tree_links(names, node);
        return st;
}

/* --- the table --- */

static guint64 *key_of(Inode *i)
{
        G_STATIC_ASSERT(sizeof i->st.st_ino == sizeof(guint64));
        return (guint64 *)&i->st.st_ino;
}

static void inode_free(InodeTable *t, Inode *i)
{
        t->events.gone(i, t->user);
        if (i->dirfd >= 0)
                close(i->dirfd);
        g_free(i->name);
        g_free(i);
}

/* The inode with @st's number, with one more reference; made if it is not known. */
static Inode *inode_get(InodeTable *t, Inode *parent, const char *name, guint32 node, const struct stat *st,
                        const struct stat *original)
{
        guint64 key = st->st_ino;
        g_mutex_lock(&t->lock);
        Inode *i = g_hash_table_lookup(t->known, &key);
        if (i == NULL) {
                i = g_new0(Inode, 1);
                i->st = *st;
                i->node = node;
                i->dirfd = -1;
                if (original != NULL) {
                        i->in_original = TRUE;
                        i->original = (struct original){original->st_dev, original->st_ino};
                        i->parent = parent;
                        i->name = g_strdup(name);
                        parent->refs++;
                }
                g_hash_table_insert(t->known, key_of(i), i);
        }
        i->refs++;
        g_mutex_unlock(&t->lock);
        return i;
}

void inode_forget(InodeTable *t, Inode *i, guint64 n)
{
        while (i != NULL && i != t->root) {
                g_mutex_lock(&t->lock);
                g_assert(i->refs >= n);
                i->refs -= n;
                gboolean last = i->refs == 0;
                if (last)
                        g_hash_table_remove(t->known, key_of(i));
                g_mutex_unlock(&t->lock);
                if (!last)
                        return;
                Inode *parent = i->parent;
                inode_free(t, i);
                i = parent; /* it was one reference of its parent */
                n = 1;
        }
}

InodeTable *inode_table_new(const NameTree *names, int original_fd, const struct inode_events *events,
                            gpointer user, GError **error)
{
        struct stat st;
        const Moult__Entry *e = name_tree_entry(names, NAME_TREE_ROOT);

        if (fstat(original_fd, &st) < 0) {
                moult_error_errno(error, errno, "looking at the original of the merge");
                return NULL;
        }
        mode_t wanted = e != NULL ? types[e->type] : S_IFDIR;
        if ((st.st_mode & S_IFMT) != wanted) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                            "the target wants another type of object at the merge's place than is there");
                return NULL;
        }
        InodeTable *t = g_new0(InodeTable, 1);
        t->names = names;
        t->original_fd = original_fd;
        t->events = *events;
        t->user = user;
        g_mutex_init(&t->lock);
        t->known = g_hash_table_new(g_int64_hash, g_int64_equal);
        t->foreign = g_hash_table_new_full(original_hash, original_equal, g_free, g_free);
        t->device = st.st_dev;
        t->root = g_new0(Inode, 1);
        t->root->st = stat_of_node(t, NAME_TREE_ROOT, &st);
        t->root->node = NAME_TREE_ROOT;
        t->root->in_original = TRUE;
        t->root->original = (struct original){st.st_dev, st.st_ino};
        t->root->dirfd = -1;
        return t;
}

void inode_table_free(InodeTable *t)
{
        if (t == NULL)
                return;
        GHashTableIter iter;
        gpointer i;
        g_hash_table_iter_init(&iter, t->known);
        while (g_hash_table_iter_next(&iter, NULL, &i))
                inode_free(t, i);
        inode_free(t, t->root);
        g_hash_table_unref(t->known);
        g_hash_table_unref(t->foreign);
        g_mutex_clear(&t->lock);
        g_free(t);
}

const NameTree *inode_table_names(const InodeTable *t)
{
        return t->names;
}

Inode *inode_table_root(const InodeTable *t)
{
        return t->root;
}

/* --- the original --- */

/* Descriptor of a directory in the original; -1 with errno. Stays the inode's. */
static int directory_fd(InodeTable *t, Inode *i)
{
        if (i == t->root)
                return t->original_fd;
        int fd = g_atomic_int_get(&i->dirfd);
        if (fd >= 0)
                return fd;
        int above = directory_fd(t, i->parent);
        if (above < 0)
                return -1;
        fd = openat(above, i->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && !g_atomic_int_compare_and_exchange(&i->dirfd, -1, fd)) {
                close(fd); /* another thread was first */
                fd = g_atomic_int_get(&i->dirfd);
        }
        return fd;
}

void inode_keep_directory(InodeTable *t, Inode *i, int fd)
{
        if (i == t->root || !g_atomic_int_compare_and_exchange(&i->dirfd, -1, fd))
                close(fd);
}

static int look_at_original(InodeTable *t, Inode *parent, const char *name, struct stat *ret)
{
        if (!parent->in_original ||
            (parent->node != NAME_TREE_NONE && !name_tree_shows_original(t->names, parent->node)))
                return ENOENT;
        int above = directory_fd(t, parent);
        if (above < 0 || fstatat(above, name, ret, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
                return errno;
        return 0;
}

int inode_open_original(InodeTable *t, Inode *i, int flags)
{
        struct stat st;
        int fd;
        flags |= O_RDONLY | O_NOFOLLOW | O_CLOEXEC;
        if (i == t->root) {
                /* O_PATH descriptors are opened through /proc: "." would do for directories alone. */
                char path[64];
                snprintf(path, sizeof path, "/proc/self/fd/%d", t->original_fd);
                fd = open(path, flags & ~O_NOFOLLOW);
        } else {
                int above = directory_fd(t, i->parent);
                fd = above < 0 ? -1 : openat(above, i->name, flags);
        }
        if (fd < 0)
                return -1;
        if (fstat(fd, &st) < 0 || st.st_ino != i->original.inode || st.st_dev != i->original.device) {
                close(fd);
                errno = ESTALE;
                return -1;
        }
        return fd;
}

char *inode_proc_path(InodeTable *t, Inode *i)
{
        if (i == t->root)
                return g_strdup_printf("/proc/self/fd/%d", t->original_fd);
        int above = directory_fd(t, i->parent);
        return above < 0 ? NULL : g_strdup_printf("/proc/self/fd/%d/%s", above, i->name);
}

ssize_t inode_readlink(InodeTable *t, Inode *i, char *buf, size_t size)
{
        const Moult__Entry *e = inode_entry(t, i);
        if (e != NULL) {
                size_t n = MIN(e->link_target.len, size);
                memcpy(buf, e->link_target.data, n);
                return (ssize_t)n;
        }
        int above = directory_fd(t, i->parent);
        return above < 0 ? -1 : readlinkat(above, i->name, buf, size);
}

/* --- looking up --- */

static int lookup_node(InodeTable *t, Inode *parent, const char *name, guint32 node, Inode **ret)
{
        struct stat st, original;

        if (name_tree_is_whiteout(t->names, node))
                return ENOENT;
        if (name_tree_shows_original(t->names, node)) {
                int r = look_at_original(t, parent, name, &original);
                if (r != 0 && r != ENOENT && r != ENOTDIR)
                        return r;
                if (r == 0 && S_ISDIR(original.st_mode)) {
                        st = stat_of_node(t, node, &original);
                        *ret = inode_get(t, parent, name, node, &st, &original);
                        return 0;
                }
        }
        st = stat_of_node(t, node, NULL);
        *ret = inode_get(t, NULL, name, node, &st, NULL);
        return 0;
}

int inode_lookup(InodeTable *t, Inode *parent, const char *name, Inode **ret)
{
        struct stat st, original;

        if (strlen(name) > NAME_MAX)
                return ENAMETOOLONG;
        if (!S_ISDIR(parent->st.st_mode))
                return ENOTDIR;
        if (g_str_equal(name, ".") || g_str_equal(name, "..") || strchr(name, '/') != NULL)
                return EINVAL;
        guint32 node = parent->node != NAME_TREE_NONE ? name_tree_child(t->names, parent->node, name)
                                                      : NAME_TREE_NONE;
        if (node != NAME_TREE_NONE)
                return lookup_node(t, parent, name, node, ret);
        int r = look_at_original(t, parent, name, &original);
        if (r != 0)
                return r;
        st = original;
        st.st_ino = original_number(t, &original);
        *ret = inode_get(t, parent, name, NAME_TREE_NONE, &st, &original);
        return 0;
}

const Moult__Entry *inode_entry(const InodeTable *t, const Inode *i)
{
        return i->node != NAME_TREE_NONE ? name_tree_entry(t->names, i->node) : NULL;
}

gboolean inode_is_targets_file(const InodeTable *t, const Inode *i)
{
        return S_ISREG(i->st.st_mode) && inode_entry(t, i) != NULL;
}
