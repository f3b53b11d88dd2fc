/* fuse-overlay/targetfs/listing.c - two directories become one list. */
#include "fuse-overlay/targetfs/listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"

struct kernel_dirent {
        guint64 d_ino;
        gint64 d_off;
        unsigned short d_reclen;
        unsigned char d_type;
        char d_name[];
};

static void add(struct listing *l, const char *name, guint64 inode, guint32 type)
{
        struct listing_entry e = {(guint32)l->names->len, type, inode};
        g_string_append_len(l->names, name, (gssize)strlen(name) + 1);
        g_array_append_val(l->entries, e);
}

/* What the target says of a name that the original has: TRUE if the name is listed from the original. */
static gboolean shows_through(const NameTree *names, guint32 directory, int fd, const struct kernel_dirent *d)
{
        struct stat st;
        guint32 node =
                directory != NAME_TREE_NONE ? name_tree_child(names, directory, d->d_name) : NAME_TREE_NONE;
        if (node == NAME_TREE_NONE)
                return TRUE;
        /* A directory in both keeps the original's number. */
        if (!name_tree_shows_original(names, node))
                return FALSE;
        if (d->d_type != DT_UNKNOWN)
                return d->d_type == DT_DIR;
        return fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0 && S_ISDIR(st.st_mode);
}

static gboolean add_original(struct listing *l, const NameTree *names, guint32 directory, int fd)
{
        guint8 buf[32768] __attribute__((aligned(8)));

        for (;;) {
                long n = syscall(SYS_getdents64, fd, buf, sizeof buf);
                if (n <= 0)
                        return n == 0;
                for (long at = 0; at < n;) {
                        const struct kernel_dirent *d = (const struct kernel_dirent *)(buf + at);
                        at += d->d_reclen;
                        if (g_str_equal(d->d_name, ".") || g_str_equal(d->d_name, ".."))
                                continue;
                        if (shows_through(names, directory, fd, d))
                                add(l, d->d_name, name_tree_original_inode(d->d_ino), DTTOIF(d->d_type));
                }
        }
}

static int compare(const void *a, const void *b, void *user)
{
        const struct listing *l = user;
        return strcmp(listing_name(l, a), listing_name(l, b));
}

static void sort(struct listing *l)
{
        if (l->entries->len > 1)
                qsort_r(l->entries->data, l->entries->len, sizeof(struct listing_entry), compare, l);
}

static gboolean is_listed(const struct listing *l, guint n, const char *name)
{
        guint low = 0, high = n;
        while (low < high) {
                guint middle = low + (high - low) / 2;
                int c = strcmp(name,
                               listing_name(l, &g_array_index(l->entries, struct listing_entry, middle)));
                if (c == 0)
                        return TRUE;
                if (c < 0)
                        high = middle;
                else
                        low = middle + 1;
        }
        return FALSE;
}

/* After the original's names are in order. */
static void add_target(struct listing *l, const NameTree *names, guint32 directory)
{
        guint32 first, count = name_tree_children(names, directory, &first);
        guint from_original = l->entries->len;

        for (guint32 i = first; i < first + count; i++) {
                guint32 node = name_tree_nth(names, i);
                const Moult__Entry *e = name_tree_entry(names, node);
                const char *name = name_tree_name(names, node);
                if (name_tree_is_whiteout(names, node))
                        continue;
                if (name_tree_shows_original(names, node) && is_listed(l, from_original, name))
                        continue;
                guint32 type = 0;
                if (name_tree_is_directory(names, node))
                        type = S_IFDIR;
                else if (e->type == MOULT__ENTRY_TYPE__ENTRY_FILE)
                        type = S_IFREG;
                else if (e->type == MOULT__ENTRY_TYPE__ENTRY_SYMLINK)
                        type = S_IFLNK;
                add(l, name, name_tree_inode(names, node), type);
        }
        if (l->entries->len > from_original)
                sort(l);
}

void listing_free(struct shelf_item *item)
{
        struct listing *l = (struct listing *)item;
        g_array_unref(l->entries);
        g_string_free(l->names, TRUE);
        g_free(l);
}

struct listing *listing_read(InodeTable *t, Inode *directory)
{
        struct listing *l = g_new0(struct listing, 1);
        l->item.refs = 1;
        l->entries = g_array_new(FALSE, FALSE, sizeof(struct listing_entry));
        l->names = g_string_new(NULL);
        gboolean opaque = directory->node != NAME_TREE_NONE &&
                          !name_tree_shows_original(inode_table_names(t), directory->node);
        if (directory->in_original && !opaque) {
                scoped_fd int fd = inode_open_original(t, directory, O_DIRECTORY);
                if (fd < 0 || !add_original(l, inode_table_names(t), directory->node, fd)) {
                        int saved = errno;
                        listing_free(&l->item);
                        errno = saved;
                        return NULL;
                }
                sort(l);
                inode_keep_directory(t, directory, g_steal_fd(&fd));
        }
        if (directory->node != NAME_TREE_NONE)
                add_target(l, inode_table_names(t), directory->node);
        return l;
}
