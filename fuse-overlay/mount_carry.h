/* fuse-overlay/mount_carry.h - what is mounted below a place is carried along when a merge covers it. */
#pragma once

#include "common/mounts.h"
#include "fuse-overlay/target.h"

struct mount_carry {
        char *name; /* relative to the place */
        int fd;     /* O_PATH: its root */
        guint64 id;
};

/* Mounts that can be reached below @place_fd (at @point of the mount table), the outermost of each: GPtrArray
 * of struct mount_carry. Merges of our own are left out (@trees as in mount_stack.h). */
GPtrArray *mount_carry_list(int place_fd, const char *point, const char *trees, GError **error);
/* NULL if all can be carried into the merge, which will look as @tree_fd does, else why not. The caller
 * frees.
 */
char *mount_carry_refusal(const GPtrArray *list, const Target *t, const struct target_merge *merge,
                          int tree_fd);
/* Clones them into the tree of mounts below @tree_fd, which is attached. */
gboolean mount_carry_into(const GPtrArray *list, int tree_fd, GError **error);
/* NULL if all mounts below the place are there without the merge, too; else what to unmount. The caller
 * frees.
 */
char *mount_carry_own(const GPtrArray *list, const char *point, GError **error);
