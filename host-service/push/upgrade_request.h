/* host-service/push/upgrade_request.h - U1: a guest names files, the host finds the release that has them and
 * pushes it.
 */
#pragma once

#include "host-service/catalogue/pushes.h"
#include "host-service/catalogue/releases.h"
#include "host-service/jobs/jobs.h"

/* The push that answers @request of @vm: a new operation, or one that is under way already with the same
 * release and paths (*ret_merged). Returns the operation's id; NOT_FOUND lists every path that no release
 * has; MALFORMED for a path that is none; BUSY while 4 pushes that this VM asked for are not
 * finished. Leading slashes are taken off. */
char *upgrade_request_accept(const struct host_env *env, Catalogue *c, Jobs *j, const char *vm,
                             const Moult__UpgradeRequest *request, gboolean *ret_merged, GError **error);
