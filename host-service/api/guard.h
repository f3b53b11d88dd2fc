/* host-service/api/guard.h - who may ask for what: scopes, API tokens, and a limit on failures.
 *
 * Whoever reaches the Unix socket may do everything: its mode is the guard. Whoever comes over the network
 * needs a token, whose scope must allow the route. A valid token always passes; only failures are limited
 * (by address, and in all), so that nobody is locked out by others behind the same address. Secrets have 192
 * bits: the limit is not against guessing, it keeps logs readable. */
#pragma once

#include "host-service/api/call.h"

#define API_STATUS_TOO_MANY 429 /* RFC 6585; libsoup has no name for it */

struct api_guard;

struct api_guard *api_guard_new(const struct host_env *env, Catalogue *c);
void api_guard_free(struct api_guard *g);
/* Fills in token and scope of @caller. 0: it may; else the status to refuse with, and @error. @route NULL: a
 * path that is none of ours; a valid token is enough to be told so. */
guint api_guard_admit(struct api_guard *g, const struct api_route *route, const char *authorization,
                      struct api_caller *caller, GError **error);
