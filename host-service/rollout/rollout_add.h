/* host-service/rollout/rollout_add.h - making a rollout, and what is said to one: rows in one transaction
 * each. The manager (rollout_manager.h) finds them there. */
#pragma once

#include "host-service/catalogue/releases.h"
#include "host-service/catalogue/rollouts.h"
#include "host-service/jobs/jobs.h"

#define ROLLOUT_VMS_MAX 10000

struct rollout_options {
        guint canary;      /* 0: none */
        const char *batch; /* "N", "N%", or NULL: all at once */
        guint max_failures;
        gint64 pause_ms;
        struct push_options push;
};

/* @vms: of VmRecord, in the order in which they are to come; at least one. MALFORMED: a batch that is none.
 * Returns the operation's id. May be called inside a transaction of the caller's. */
char *rollout_add(const struct host_env *env, Catalogue *c, Jobs *j, const ReleaseRecord *release,
                  const GPtrArray *vms, const struct rollout_options *options, GError **error);

/* All of them: WRONG_STATE where they do not fit. Nothing more begins. */
gboolean rollout_stop(Catalogue *c, const char *operation, GError **error);
/* After a stop; or the next wave now, in a pause. */
gboolean rollout_resume(Catalogue *c, const char *operation, GError **error);
/* @take_back: what it has upgraded is rolled back. */
gboolean rollout_abort(Catalogue *c, const char *operation, gboolean take_back, GError **error);
