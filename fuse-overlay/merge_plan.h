/* fuse-overlay/merge_plan.h - from a target's items to the places that are merged. Pure. */
#pragma once

#include "fuse-overlay/target.h"

struct merge_refusal {
        char *path;
        char *reason; /* for people */
};

typedef struct {
        GArray *merges;      /* struct target_merge, in the order of paths; strings owned by the plan */
        GPtrArray *refusals; /* struct merge_refusal: items that no merge can bring (directly in the root,
                                ...) */
        GPtrArray *strings;
} MergePlan;

/* @present: what is merged now (NULL: nothing): such a place is covered by a place of the plan as long as its
 * mount (of the root's mount: its directory at the top) has items. @t: target_refusal() has nothing against
 * it. Merges on different mounts may lie in one another; their order, by path, has the outer one first. */
MergePlan *merge_plan(const Target *t, const struct target_merge *present, guint n_present);
void merge_plan_free(MergePlan *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MergePlan, merge_plan_free)
/* For people, a line each: "tree /usr: 12 files, 3 deletions on the mount at /usr". The caller frees. */
char *merge_plan_text(const MergePlan *p, const Target *t);
