/* host-service/snapshot/files_sweep.h - files that merges have left go, as soon as nobody needs them.
 * docs/snapshots.md, *Merge into history*, says who does. */
#pragma once

#include "host-service/catalogue/merges.h"
#include "host-service/snapshot/layers_sweep.h"

typedef struct FilesSweep FilesSweep;

/* All must outlive it. @layers hears of VMs whose layers a merge does not need any more. */
FilesSweep *files_sweep_new(const struct host_env *env, Catalogue *c, const LayerRefs *refs,
                            LayersSweep *layers);
/* What it is at is left to the next start. NULL is fine. */
void files_sweep_free(FilesSweep *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FilesSweep, files_sweep_free)

/* Looks at all that there is, later from the loop, once for any number of calls. Call it when something has
 * become unneeded: a merge has ended, a layer was uploaded, a reader has. */
void files_sweep_run(FilesSweep *s);
