/* host-service/jobs/push_operation.h - making a push: one operation and one push row for each VM, in one
 * transaction.
 *
 * Both doors come here: POST /v1/pushes and /rollback, and a guest's own request (U1). The runner of the
 * kinds "push" and "rollback" (host-service/push/) finds everything in catalogue_push_list(). */
#pragma once

#include "host-service/catalogue/pushes.h"
#include "host-service/catalogue/releases.h"
#include "host-service/jobs/jobs.h"

/* @release NULL with options->rollback. @vms: NULL-terminated, at least one, no name twice (MALFORMED), all
 * known (NOT_FOUND). A VM may have several pushes waiting: the runner takes them one after the other. Returns
 * the operation's id. May be called inside a transaction of the caller's. */
char *push_operation_add(const struct host_env *env, Catalogue *c, Jobs *j, const ReleaseRecord *release,
                         const char *const *vms, const struct push_options *options, GError **error);
/* The same for the one VM @guest, which asked for it itself. */
char *push_operation_add_for_guest(const struct host_env *env, Catalogue *c, Jobs *j,
                                   const ReleaseRecord *release, const char *guest,
                                   const struct push_options *options, GError **error);
