/* fuse-overlay/mount_stack.h - the mounts at one place: which are ours, and how one takes the place of
 * another.
 *
 * Theory of operation: at a place lies the original (a mount point or not), and on it what serves the merge.
 * A path lookup always goes to the top of that stack. A new merge is mounted beneath the old one, and then
 * the old one is unmounted: that is the switch, one operation, and no lookup finds the place without either.
 * Linux 6.5 can mount beneath. On older kernels the propagation of mounts does it: between original and merge
 * lies an *anchor*, a clone of the original in a peer group of its own, and its peer, the *handle*, is kept
 * uncovered among the originals. What is mounted on the handle arrives on the anchor as well, beneath what
 * is there (since Linux 4.9). docs/decisions/0010-switch-by-propagation.md */
#pragma once

#include "common/mounts.h"
#include "fuse-overlay/merge.h"
#include "fuse-overlay/originals.h"

typedef enum { LAYER_FOREIGN, LAYER_MERGE, LAYER_ANCHOR } LayerKind;

struct mount_layer {
        guint64 id;
        LayerKind kind;
        MergeMethod method;
        char merge_id[TARGET_ID_LENGTH + 1];
};

/* A place to look at. */
struct mount_place {
        const char *path;  /* relative to the root */
        char *point;       /* as in the mount table */
        int fd;            /* O_PATH, on top of what is mounted there */
        GArray *layers;    /* struct mount_layer, top first, down to the last one of ours */
        const char *trees; /* what objects' links are recognised by: their path in the mount table */
};

/* NULL with NOT_FOUND if there is nothing at @path. @path and @trees are borrowed. */
struct mount_place *mount_place_open(int root_fd, const char *path, const char *trees, Originals *o,
                                     GError **error);
void mount_place_free(struct mount_place *p);
typedef struct mount_place MountPlace;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MountPlace, mount_place_free)

/* "moult-METHOD-ID". The caller frees. */
char *mount_tag(MergeMethod method, const char *id);
/* True if @m is a merge of ours. */
gboolean mount_is_merge(const struct mount *m, const char *trees, MergeMethod *ret_method,
                        char ret_id[static TARGET_ID_LENGTH + 1]);

/* What lies on top: NULL if nothing of ours is in the stack. FOREIGN: somebody mounted over our merge. */
const struct mount_layer *mount_place_top(const struct mount_place *p);
/* True if nothing of ours is hidden below the top but the anchor. */
gboolean mount_place_is_tidy(const struct mount_place *p);
/* The merge that lies lowest: of an interrupted exchange, the newer one. NULL: there is none. */
const struct mount_layer *mount_place_lowest(const struct mount_place *p);
/* TRUE if a merge can be put beneath what is there. */
gboolean mount_place_can_exchange(const struct mount_place *p);

/* The first merge at a place where nothing of ours lies. @tree_fd: attached in a private place, or detached.
 * @carried: mounts to be seen below the place as well, also while the merge is taken away (mount_carry.h). */
struct mount_carry;
gboolean mount_place_attach(struct mount_place *p, Originals *o, int tree_fd, const GPtrArray *carried,
                            GError **error);
/* @tree_fd instead of the merge on top. *ret_on_top: it could only be mounted on top: the old one is still
 * below. */
gboolean mount_place_replace(struct mount_place *p, Originals *o, int tree_fd, gboolean *ret_on_top,
                             GError **error);
/* Unmounts what of ours lies above the mount @id (0: all of ours). */
gboolean mount_place_unwind(int root_fd, const char *path, const char *trees, Originals *o, guint64 id,
                            GError **error);
