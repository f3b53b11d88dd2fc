/* guest-agent/upgrade/owners.h - which package of the guest's own package manager owns a path. */
#pragma once

#include <glib.h>

typedef struct Owners Owners;
/* Reads dpkg's lists below @root_fd, when the first path is asked for. */
Owners *owners_load(int root_fd);
void owners_free(Owners *o);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Owners, owners_free)
/* "libssl3:amd64", or NULL. @path is relative to the root. Valid as long as @o. */
const char *owners_find(Owners *o, const char *path);
