/* guest-agent/upgrade/fill.h - instant mode: what of the target is not in the store yet, as a plan that
 * stage.c can work from.
 *
 * It is made from the target's record and the store alone, so an agent that was started again makes the same
 * one as the agent that planned the release, less what is local by now. Files are found in the pack's list by
 * their content; their metadata are the target's (with a label that they inherit). */
#pragma once

#include "fuse-overlay/object_store.h"
#include "guest-agent/upgrade/plan.h"

struct fill_totals {
        guint64 bytes, bytes_missing; /* of the release's own files in the target */
};

/* Every file of @t whose object @store has not, each object once; its plan entry is `deferred`, and `seen` is
 * the target's entry. @m, @t: must outlive the plan. Entries have the names in the incoming directory that
 * they had at first, as long as nothing of the release is missing in between; what is found there under a
 * name is judged by its digest anyway. NOT_FOUND: a file that is not in the store is not in the pack either.
 */
Plan *fill_plan_new(const Manifest *m, const Target *t, ObjectStore *store, guint64 generation,
                    struct fill_totals *ret_totals, GError **error);
