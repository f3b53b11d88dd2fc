/* host-service/release/build_tree.h - what is in a directory tree: names and metadata as one sorted list.
 *
 * The walk never follows a symbolic link and never enters another mount: a tree is exactly what was given. It
 * is a snapshot of names, not of contents; whoever reads a file's bytes later calls build_tree_open(), which
 * compares the file with what the walk saw, and build_tree_still() when done. */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/digest.h"
#include "host-service/release/per_vm_list.h"

struct tree_xattr {
        char *name;
        GBytes *value;
};

struct tree_node {
        char *path;  /* below the root, no leading '/'; bytes, not necessarily UTF-8 */
        mode_t mode; /* as in struct stat: type and permission bits */
        uid_t uid;
        gid_t gid;
        struct timespec mtime, ctime;
        uint64_t size; /* bytes; 0 for what is not a file */
        dev_t dev, rdev;
        ino_t ino;
        char *link_text;           /* symbolic links */
        struct tree_xattr *xattrs; /* sorted by name */
        unsigned n_xattrs;
        unsigned leader;  /* index of the first name of this file; its own where it has only one */
        unsigned n_names; /* names of this file in the tree, this one included */
        bool conffile;    /* dpkg's: what the administrator made of it stays */
        bool has_digest;
        uint8_t digest[DIGEST_SIZE]; /* set on leaders by build_digest_run() */
};

struct build_tree_options {
        const char *const *exclude;       /* NULL or NULL-terminated globs; see build_tree_excludes() */
        const char *const *exclude_xattr; /* NULL or NULL-terminated globs over attribute names */
        bool owner_root;                  /* report every owner and group as 0 */
        const PerVmList *per_vm;          /* NULL, or: directories on it are left out with all below */
        bool skip_sockets;                /* leave them out instead of refusing */
};

typedef struct BuildTree BuildTree;

/* Walks @dir. Sockets, other mounts below it, and names that no manifest may hold are errors that name the
 * path.
 * @options is used during the call only. */
BuildTree *build_tree_scan(const char *dir, const struct build_tree_options *options,
                           GCancellable *cancellable, GError **error);

/* A tree that is no directory: its nodes come from somewhere else, and so do the contents of its files. */
struct build_tree_source {
        /* The content of @n as an open file, read from its beginning; -1 with @error. Any thread, also
         * several at a time. */
        int (*open)(gpointer self, const struct tree_node *n, GError **error);
        /* May be NULL. These files will be opened next, in this order: a source that is slow to reach may
         * begin to fetch them. */
        void (*expect)(gpointer self, const struct tree_node *const *nodes, guint n);
        void (*free)(gpointer self);
};
/* @name: for errors. The tree frees @self. */
BuildTree *build_tree_new(const char *name, const struct build_tree_source *source, gpointer self);
/* Takes over what @n owns. Names of one file have the same ino, and other files have another. dev 0:
 * the tree's own; else the node is an object of another tree. */
void build_tree_add(BuildTree *t, const struct tree_node *n);
/* After the last one: sorts, finds hard links. Nodes with the same path are an error of the caller's. */
void build_tree_finish(BuildTree *t);

void build_tree_free(BuildTree *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BuildTree, build_tree_free)

const char *build_tree_dir(const BuildTree *t);
unsigned build_tree_count(const BuildTree *t);
const struct tree_node *build_tree_node(const BuildTree *t, unsigned index);
/* Index of the node with this path, or -1. */
gssize build_tree_find(const BuildTree *t, const char *path);
/* Thread-safe for different nodes. */
void build_tree_set_digest(BuildTree *t, unsigned index, const uint8_t digest[static DIGEST_SIZE]);

/* A hint: the regular files with these indices (guint) will be opened next, in this order. */
void build_tree_expect(const BuildTree *t, const GArray *indices);
/* Opens a regular file of the tree for reading; an error if it is no longer the file that the walk saw. */
int build_tree_open(const BuildTree *t, unsigned index, GError **error);
/* FALSE with @error if the open file @fd has changed since the walk: its bytes are then of no use. */
gboolean build_tree_still(const BuildTree *t, unsigned index, int fd, GError **error);

/* Pure. A glob with a '/' is matched against the whole path, one without against the last part, as in rsync;
 * a leading '/' is ignored but for that. What lies below an excluded directory is excluded with it. */
bool build_tree_excludes(const char *const *globs, const char *path);

/* A NULL-safe comparison of what a manifest carries about two nodes besides content and mtime. */
bool tree_node_same_metadata(const struct tree_node *a, const struct tree_node *b);
