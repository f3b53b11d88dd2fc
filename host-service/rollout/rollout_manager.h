/* host-service/rollout/rollout_manager.h - runs the operations "rollout": opens waves, stops, goes on, ends
 * (docs/rollout.md).
 *
 * It listens to the catalogue: what an operator said through the API, how a push ended, that a VM is gone are
 * all rows by the time that it looks. */
#pragma once

#include "host-service/jobs/jobs.h"
#include "host-service/push/push_manager.h"

typedef struct RolloutManager RolloutManager;

/* Registers its kind with @jobs. Before jobs_begin(). The others must outlive it. */
RolloutManager *rollout_manager_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                    PushManager *pushes);
void rollout_manager_free(RolloutManager *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RolloutManager, rollout_manager_free)
