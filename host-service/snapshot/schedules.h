/* host-service/snapshot/schedules.h - takes snapshots when schedules say so, and prunes. docs/snapshots.md,
 * *Schedules*. */
#pragma once

#include "host-service/jobs/jobs.h"

/* So many of them are under way at once, of all VMs; the others are late. */
#define SCHEDULES_AT_ONCE 4u

typedef struct SnapshotSchedules SnapshotSchedules;

/* @zone: of times of day; referenced. All must outlive it. */
SnapshotSchedules *snapshot_schedules_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                          GTimeZone *zone);
/* After jobs_begin(): what is due, and what an earlier moultd has begun, is looked at from the loop. */
void snapshot_schedules_begin(SnapshotSchedules *s);
/* What is under way goes on: it is a job. */
void snapshot_schedules_free(SnapshotSchedules *s);
