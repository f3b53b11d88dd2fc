/* fuse-overlay/merge_parts.h - what merge.c, merge_prepare.c and merge_switch.c share; nobody else includes
 * it.
 */
#pragma once

#include "fuse-overlay/merge_method.h"
#include "fuse-overlay/mount_carry.h"
#include "fuse-overlay/mount_stack.h"

struct Merger {
        struct merge_config config; /* strings owned */
        int root_fd;
        ObjectStore *store;
        Originals *originals; /* NULL: RUN_DIR was not needed yet */
        char *trees;          /* what links of objects are recognised by in the mount table; NULL: unknown */
};

typedef enum {
        CHANGE_ATTACH,  /* nothing of ours is there */
        CHANGE_REPLACE, /* another merge is there */
        CHANGE_UNWIND,  /* it is there already, below older ones */
        CHANGE_REMOVE,  /* nothing is to be merged there any more */
} ChangeKind;

struct merge_change {
        ChangeKind kind;
        struct target_merge merge; /* of the target; of a removal: path is owned */
        char *path;                /* owned copy */
        char id[TARGET_ID_LENGTH + 1];
        guint64 lowest; /* mount to which the place is unwound first, or by an unwinding; 0: none */
        const struct merge_method_ops *ops;
        struct merge_job job; /* its tag is owned */
        char *tag;
        int original_fd, tree_fd;
        gboolean used;     /* it has been switched in */
        GPtrArray *buried; /* struct buried: merges that this one covers */
};

/* A merge that a wider one covers, reached by the folder that it lies in, which is opened before. */
struct buried {
        int folder; /* O_PATH */
        char *name;
        guint64 id; /* of the mount on top */
};

struct Prepared {
        Merger *merger;
        Target *target;     /* as it is merged; NULL: nothing */
        GPtrArray *changes; /* struct merge_change, in the order in which they are made */
};

const struct merge_method_ops *merge_method_ops(MergeMethod m);
/* Makes RUN_DIR if needed. */
gboolean merger_need_originals(Merger *m, GError **error);
/* RUN_DIR if it is there, and what the mount table shows of our links. */
gboolean merger_look(Merger *m, GError **error);
/* NOT_FOUND: the mount that the merge belongs to is gone. */
gboolean merger_mount_is_there(const Merger *m, const struct target_merge *merge, GError **error);
/* @want without the merges whose mount is not there, which are told in @notes. */
Target *merger_present_part(const Merger *m, const Target *want, GString *notes, GError **error);
/* FALSE: @fd lies on a union whose server has died. */
gboolean merger_is_alive(int fd);
MountPlace *merger_place(Merger *m, const char *path, GError **error);
/* mount_place_unwind() */
gboolean merger_unwind(Merger *m, const char *path, guint64 id, GError **error);
/* Fills in all but the tag and the descriptor's owner. */
struct merge_job merger_job(Merger *m, const Target *t, const struct target_merge *merge, int original_fd,
                            const struct merge_source *source, GCancellable *cancellable);
const struct merge_method_ops *merger_choose_ops(const struct merge_job *job, MergeMethod forced,
                                                 GError **error);
