/* host-service/release/releases.h - the store's releases: taking packs in, checking them, letting them go.
 *
 * Theory of operation: an import copies (or reflinks) the file to a temporary name in the pack store FIRST
 * and judges the copy, which nobody else can change: header, signature by a key of the trust directory, list,
 * every content. Then it is padded to a power of two (a BAR's size), sealed and renamed, and only then is
 * there a row: its paths are written a few thousand at a time, and all of them before it is seen. A kill in
 * between leaves a file without a row, which the next start removes before it runs the
 * import again. A sealed file's name holds the operation's id: it is never used twice.
 */
#pragma once

#include "host-service/catalogue/releases.h"
#include "host-service/jobs/jobs.h"

#define RELEASE_PADDED_MIN (UINT64_C(2) << 20)

typedef struct Releases Releases;

/* Cleans the store (files without a row, left by a kill) and registers the job kinds "release-import"
 * (request
 * {"path"}) and "release-verify" (request {"release", "version"}). */
Releases *releases_new(const struct host_env *env, Catalogue *c, Jobs *j, const char *trust_dir,
                       GError **error);
/* Cancels what runs and waits for the worker threads; the operations are taken up by the next start. */
void releases_free(Releases *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Releases, releases_free)

/* Goes on with operation @id as its import: judges the temporary file of that operation (import.h), whose
 * descriptor is taken, records the release and ends the operation. Its release must have this name and
 * version. */
void releases_take_in(Releases *r, const char *id, int fd, const char *name, const char *version);
/* Stops what is done here for operation @id, if anything is. */
void releases_cancel(Releases *r, const char *id);

/* Lets go of the row (errors as catalogue_release_remove()), then of the file in a worker thread. */
gboolean releases_remove(Releases *r, const char *name, const char *version, GError **error);

/* One page of the pack's list of files, read in a worker thread. @done runs exactly once; @manifest belongs
 * to the callee during the call; NULL with @error. */
typedef void (*releases_manifest_func)(const Manifest *manifest, const GError *error, gpointer user);
void releases_read_manifest(Releases *r, const ReleaseRecord *release, releases_manifest_func done,
                            gpointer user);

/* Pure: the size of the file that a window maps: the next power of two, at least 2 MiB (which virtio-pmem
 * needs); 0 if there is none. */
guint64 release_padded_size(guint64 pack_size);
