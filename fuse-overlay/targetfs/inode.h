/* fuse-overlay/targetfs/inode.h - what the kernel knows of the merge: one struct for each object that it has
 * looked up and not forgotten.
 *
 * Theory of operation: an object is the target's (a node of the name tree), the original's (a name in a
 * directory of the original), or, for directories, both. Directories of the original are held by
 * descriptors, opened when first needed; everything else is reached by its directory and its name, never by a
 * path, so no link is followed and a large tree costs no descriptor for each file. All of it is immutable
 * while it is mounted: attributes are read once.
 *
 * An inode lives for as long as the kernel has lookups of it, or an inode that is reached through it lives.
 */
#pragma once

#include <glib.h>
#include <sys/stat.h>

#include "fuse-overlay/targetfs/name_tree.h"
#include "fuse-overlay/targetfs/shelf.h"

typedef struct InodeTable InodeTable;

/* An object of the original: overlayfs and btrfs' subvolumes show those of several devices in one mount. */
struct original {
        guint64 device, inode;
};

typedef struct Inode {
        struct stat st; /* as it is to be seen; st_ino is unique in the merge */
        guint32 node;   /* NAME_TREE_NONE: of the original alone */
        /* Where it is in the original; NULL for the root, and for what is the target's alone. */
        struct Inode *parent;
        char *name;
        gboolean in_original;
        struct original original;
        gint dirfd; /* atomic; directories of the original: O_PATH or readable, -1: not opened yet */

        guint64 refs; /* under the table's lock: lookups, and inodes with this parent */

        struct shelf_item *content, *listing; /* slots of their shelves */
        gint complained;                      /* atomic: it was logged that it cannot be read */
} Inode;

struct inode_events {
        /* An inode goes away: its slots must be dropped. Called without locks. */
        void (*gone)(Inode *i, gpointer user);
};

/* @names and @original_fd (O_PATH: the merge's directory, or its file) stay the caller's. */
InodeTable *inode_table_new(const NameTree *names, int original_fd, const struct inode_events *events,
                            gpointer user, GError **error);
/* After the last request. */
void inode_table_free(InodeTable *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(InodeTable, inode_table_free)
const NameTree *inode_table_names(const InodeTable *t);
Inode *inode_table_root(const InodeTable *t);

/* Any thread. 0 and one lookup counted in *ret, or an errno value; ENOENT: the name does not exist. */
int inode_lookup(InodeTable *t, Inode *parent, const char *name, Inode **ret);
/* Any thread. @n lookups less. */
void inode_forget(InodeTable *t, Inode *i, guint64 n);

/* The target's entry; NULL: metadata are the original's. */
const Moult__Entry *inode_entry(const InodeTable *t, const Inode *i);
gboolean inode_is_targets_file(const InodeTable *t, const Inode *i);

/* The object in the original, O_RDONLY and not followed: a new descriptor, or -1 with errno. ESTALE: another
 * object has that name now. */
int inode_open_original(InodeTable *t, Inode *i, int flags);
/* @fd is one of inode_open_original() for a directory, done with: what is in it is looked up through it from
 * now on, instead of opening it a second time. Takes it over; any thread. */
void inode_keep_directory(InodeTable *t, Inode *i, int fd);
/* A path below /proc/self/fd that names the object in the original, for the calls that know no descriptors;
 * NULL with errno. The caller frees. */
char *inode_proc_path(InodeTable *t, Inode *i);
/* readlink() of the target's or the original's symbolic link: bytes, or -1 with errno. */
ssize_t inode_readlink(InodeTable *t, Inode *i, char *buf, size_t size);
