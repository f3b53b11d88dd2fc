/* host-service/push/push_snapshot.h - the snapshot that is taken before a push begins (`push --snapshot`).
 *
 * An operation "snapshot-create" of its own, whose id the push's row has before it starts: a moultd that is
 * restarted finds it, and waits for the same one. */
#pragma once

#include "host-service/catalogue/pushes.h"
#include "host-service/jobs/jobs.h"

typedef struct PushSnapshot PushSnapshot;

/* Once, from the loop. @error: there is none, and the push must not begin. */
typedef void (*push_snapshot_done_func)(const GError *error, gpointer user);

/* The push of @r wants one, and has not begun. */
gboolean push_snapshot_is_due(const PushRecord *r);
/* Has it taken, or waits for the one that the row names. @r's snapshot is set. All must outlive it. */
PushSnapshot *push_snapshot_new(const struct host_env *env, Catalogue *c, Jobs *jobs, PushRecord *r,
                                push_snapshot_done_func done, gpointer user);
/* It goes on if it has begun; @done does not run any more. */
void push_snapshot_free(PushSnapshot *s);
/* FALSE for NULL. */
gboolean push_snapshot_is_taken(const PushSnapshot *s);
