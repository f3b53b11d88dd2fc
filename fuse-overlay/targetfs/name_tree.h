/* fuse-overlay/targetfs/name_tree.h - the part of a target that lies below one merge, as a tree of names.
 *
 * Theory of operation: the target is a flat list by path; a file system is asked for one name in one
 * directory. So the list is turned once into nodes, with the children of a node in one run, sorted by name.
 * Directories that the target only passes through have a node without an entry ("places").
 *
 * Inode numbers are decided here, too: those of the original are kept below 2^31 and moved up by 2^32 above
 * it; the target's lie in between. So the two never meet, a file keeps its number for as long as the target
 * stays what it is, and programs of 32 bits can look at both. Names of one object have one number: they are
 * hard links. Pure. */
#pragma once

#include "fuse-overlay/target.h"

typedef struct NameTree NameTree;

#define NAME_TREE_NONE G_MAXUINT32
#define NAME_TREE_ROOT 0u

/* The items that this merge serves. Keeps a reference of @t. */
NameTree *name_tree_new(Target *t, const struct target_merge *merge);
void name_tree_free(NameTree *n);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NameTree, name_tree_free)

/* The node of @name in the directory @parent, or NAME_TREE_NONE: the target does not know it. */
guint32 name_tree_child(const NameTree *n, guint32 parent, const char *name);
/* All nodes in @parent are [*ret_first, *ret_first + n) of name_tree_nth(), by name; n is returned. */
guint32 name_tree_children(const NameTree *n, guint32 parent, guint32 *ret_first);
guint32 name_tree_nth(const NameTree *n, guint32 position);

const char *name_tree_name(const NameTree *n, guint32 node);
/* NULL: a place. */
const Moult__Entry *name_tree_entry(const NameTree *n, guint32 node);
gboolean name_tree_is_whiteout(const NameTree *n, guint32 node);
/* A place, or a directory of the target. */
gboolean name_tree_is_directory(const NameTree *n, guint32 node);
/* A directory in which the original's directory of that name is seen, too. */
gboolean name_tree_shows_original(const NameTree *n, guint32 node);
guint64 name_tree_inode(const NameTree *n, guint32 node);
/* Names of the node's object below the merge. */
guint32 name_tree_links(const NameTree *n, guint32 node);

/* What an inode number of the original becomes. */
guint64 name_tree_original_inode(guint64 inode);
