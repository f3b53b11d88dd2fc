/* fuse-overlay/tree_nodes.h - what the tree of one merge consists of: its items, and the directories that
 * lead to them. Pure but for looking at the original. */
#pragma once

#include "fuse-overlay/target.h"

/* "y": overlayfs shows nothing of the original's directory. */
#define TREE_OPAQUE "trusted.overlay.opaque"

struct tree_node {
        char *path;              /* relative to the merge; "" is the merge itself */
        const char *name;        /* last component, in @path */
        gboolean listed;         /* by the target, in @item; else a directory of the original */
        struct target_item item; /* borrowed from the target */
};

/* GPtrArray of struct tree_node, parents first. @original_fd: the merge's directory in the original, or -1.
 * Whiteouts of what the original does not have are left out: in a directory that is the target's alone
 * overlayfs would list them. With -1 they are all there. */
GPtrArray *tree_nodes(const Target *t, const struct target_merge *merge, int original_fd, GError **error);
/* Owner, mode, times and attributes that the directory @path of the original has, for a directory of the tree
 * that stands for it. Attributes that the kernel makes (IMA, EVM, overlayfs) are left out. Where the original
 * has none: root's, 0755. */
Metadata *tree_original_metadata(int original_fd, const char *path, GError **error);
/* What the node is to be: S_IFMT bits; a whiteout is S_IFCHR. */
mode_t tree_node_type(const struct tree_node *n);
gboolean tree_node_is_whiteout(const struct tree_node *n);
/* The item's, or tree_original_metadata(). */
Metadata *tree_node_metadata(const struct tree_node *n, int original_fd, GError **error);

/* Opens the directory @path ("": @dirfd itself) below @dirfd: no links, no other mount. @flags: O_RDONLY or
 * O_PATH. -1 with errno. */
int tree_open_directory(int dirfd, const char *path, int flags);

/* The directory of the node that we are at, below @top_fd (borrowed). Neighbours share it. */
typedef struct tree_cursor {
        int top_fd;
        int fd;    /* -1: none yet */
        char *dir; /* what was opened last, or could not be */
} TreeCursor;
/* FALSE with errno. */
gboolean tree_cursor_move(struct tree_cursor *c, const struct tree_node *n, int flags);
void tree_cursor_clear(struct tree_cursor *c);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(TreeCursor, tree_cursor_clear)
