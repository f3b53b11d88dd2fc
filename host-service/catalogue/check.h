/* host-service/catalogue/check.h - whether the catalogue's file is whole, by SQLite's own check. */
#pragma once

#include "host-service/env.h"

/* Reads the whole file through a connection of its own: for a worker thread, while the catalogue is in use.
 * *ret_problem: NULL if it is whole, else what SQLite says; owned by the caller. FALSE: it could not be
 * looked at (CANCELLED, IO). */
gboolean catalogue_check(const struct host_env *env, char **ret_problem, GCancellable *cancellable,
                         GError **error);
