/* fuse-overlay/merge_method.h - how a merge can be served: an operations table. */
#pragma once

#include "fuse-overlay/merge.h"

/* All borrowed. */
struct merge_job {
        const struct merge_config *config;
        ObjectStore *store;
        const Target *target;
        struct target_merge merge;
        int original_fd; /* O_PATH: the merge's directory or file in the original */
        const char *tag; /* "moult-METHOD-ID": the mount's source */
        unsigned attr;   /* MOUNT_ATTR_* of the original: MOUNT_ATTR_RDONLY, NOSUID, NODEV, NOEXEC */
        const struct merge_source *source;
        GCancellable *cancellable;
};

struct merge_method_ops {
        MergeMethod method;
        /* NULL if it can serve this merge here, else why not, for people. Tries what cannot be known by
         * looking. The caller frees. */
        char *(*refusal)(const struct merge_job *job);
        /* A detached mount (fsmount() or open_tree()), or -1. What it needs on disk (a tree) is made first.
         */
        int (*make)(const struct merge_job *job, GError **error);
        /* After it was switched in, or instead: @kept. The server of a union that was never used ends. May be
         * NULL. */
        void (*release)(const struct merge_job *job, gboolean kept);
};

extern const struct merge_method_ops merge_overlay, merge_bind, merge_union;
