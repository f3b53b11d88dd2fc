/* host-service/cli/drift_release.h - what a VM's releases have put where, by its own history and moultd's
 * lists. */
#pragma once

#include "host-service/cli/client.h"
#include "host-service/release/build_plan.h"

typedef struct DriftReleases DriftReleases;

/* The committed generations of @vm, newest first. @notes (char *) gets what cannot be compared. */
DriftReleases *drift_releases_new(Client *c, const char *vm, GPtrArray *notes, GError **error);
void drift_releases_free(DriftReleases *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DriftReleases, drift_releases_free)

/* Pure. The release that has the last word on @path ("NAME VERSION"), or NULL. *@ret_as_released: @live
 * (NULL: there is nothing) is what it put there, by kind and content. */
const char *drift_releases_judge(const DriftReleases *d, const char *path, const BuildTree *live,
                                 gssize index, gboolean *ret_as_released);
/* Calls @func for each path that a release has the last word on. */
void drift_releases_foreach(const DriftReleases *d, void (*func)(const char *path, gpointer user),
                            gpointer user);
