/* guest-agent/upgrade/plan_merge.h - what of the plan cannot be written, as a target and its merges. */
#pragma once

#include "fuse-overlay/merge.h"
#include "guest-agent/upgrade/plan.h"

/* The target that there will be: @before (NULL: nothing) with the plan's merged entries put over it, without
 * merges. NULL without
 * @error if there is nothing to merge at all. The same plan gives the same target, before and after staging.
 */
Target *plan_compose(const Plan *p, const Target *before, const struct target_release *release, int root_fd,
                     GError **error);

/* Plans the merges of @t, which comes after @before, and chooses the method of each by trying. What no merge
 * or method can bring becomes blocked in the plan, with the reason.
 * @merger: NULL (only looking): methods are not chosen. *ret: the target with its merges; @t is not taken
 * over. */
gboolean plan_place_merges(Plan *p, const Target *before, const Target *t, Merger *merger, MergeMethod forced,
                           Target **ret, GArray **ret_methods, GError **error);
/* Index of the merge of @t that serves the entry, or -1. */
gint plan_merge_of(const Target *t, const struct plan_entry *pe);
