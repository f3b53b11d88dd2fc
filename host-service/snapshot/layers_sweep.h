/* host-service/snapshot/layers_sweep.h - layers that no restore point and no disk stands on any more go, with
 * their files. docs/snapshots.md, *Remove and prune*. All calls from the loop. */
#pragma once

#include "host-service/catalogue/layers.h"
#include "host-service/env.h"
#include "host-service/snapshot/layer_refs.h"

typedef struct LayersSweep LayersSweep;

/* All must outlive it. */
LayersSweep *layers_sweep_new(const struct host_env *env, Catalogue *c, const LayerRefs *refs);
/* What it is at is left to the next start. NULL is fine. */
void layers_sweep_free(LayersSweep *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LayersSweep, layers_sweep_free)

/* A restore point of the VM was removed (NULL: it is not known of which VMs that is true): it is looked at by
 * the next run, and by each one after it until nothing is left of it that could go. */
void layers_sweep_look(LayersSweep *s, const char *vm);
/* Later from the loop, once for any number of calls: call it when something has become unneeded. */
void layers_sweep_run(LayersSweep *s);

/* Layers of the VM that nobody needs, the newest first: of LayerRecord. Needed is what a restore point, one
 * that is being made, a disk's top, or a merge stands on. */
GPtrArray *layers_sweep_unneeded(Catalogue *c, const char *vm, GError **error);
