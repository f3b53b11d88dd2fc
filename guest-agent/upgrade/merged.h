/* guest-agent/upgrade/merged.h - the target file system as the engine sees it: what is wanted follows from
 * the journals.
 *
 * There is no record of what is merged: the mount table tells. The wanted target is that of the newest
 * generation whose last record is between the decision to commit and "committed"; so a generation that is
 * rolled back takes its target with it. */
#pragma once

#include "fuse-overlay/merge.h"
#include "guest-agent/upgrade/engine.h"

struct wanted {
        Target *target;     /* NULL: nothing is to be merged */
        MergeMethod method; /* as the push asked */
        guint64 generation; /* that says so; 0: none does */
        gboolean unfilled;  /* instant mode: what is not in the store is served from its pack */
};
void wanted_clear(struct wanted *w);

gboolean merged_wanted(Upgrade *u, struct wanted *ret, GError **error);
/* Where the bytes of generation @generation's pack come from while it is not filled. *ret_record: a string of
 * it, which the caller frees after use. */
struct merge_source merged_source(const Upgrade *u, guint64 generation, char **ret_record);
/* Makes the mounts as they are wanted. Does nothing, and makes nothing, where there never was a target.
 * @notes gets what could not be tidied. */
gboolean merged_apply(Upgrade *u, GString *notes, GError **error);
/* Removes objects and trees that no generation needs any more. What cannot be removed is noted, and tried
 * again the next time. */
void merged_collect(Upgrade *u, GString *notes);
/* STATE_DIR/target/incoming/N, made if @create. -1 with @error. */
int merged_incoming(Upgrade *u, guint64 generation, gboolean create, GError **error);
gboolean merged_remove_incoming(Upgrade *u, guint64 generation, GError **error);
