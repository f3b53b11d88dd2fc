/* host-service/snapshot/manifest_sweep.h - manifests of restore points that are gone go from the store, too:
 * what removals (catalogue/removals.h) are left, until none is. All calls from the loop. */
#pragma once

#include "host-service/catalogue/catalogue.h"

typedef struct ManifestSweep ManifestSweep;

/* After each pass over what there was at its beginning; @left: so many could not be removed, and are tried
 * again by themselves; @why is the first reason. */
typedef void (*manifest_swept_func)(guint left, const GError *why, gpointer user);

/* All must outlive it. */
ManifestSweep *manifest_sweep_new(const struct host_env *env, Catalogue *c, manifest_swept_func swept,
                                  gpointer user);
/* What it is at is left to the next start; turns the loop until its threads have ended. NULL is fine. */
void manifest_sweep_free(ManifestSweep *s);
/* Later from the loop. A pass that is under way is followed by another one. */
void manifest_sweep_run(ManifestSweep *s);
