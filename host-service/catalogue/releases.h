/* host-service/catalogue/releases.h - the releases whose packs are in the store, and which paths they have.
 */
#pragma once

#include "host-service/catalogue/catalogue.h"
#include "shm/manifest.h"

typedef struct release_record {
        gint64 id; /* ascending with import */
        char *name, *version;
        guint8 digest[DIGEST_SIZE]; /* of the manifest: names the pack */
        char *file;                 /* name in the pack store */
        guint64 size;               /* bytes of the pack, without padding */
        guint64 padded_size;        /* of the file: a power of two, >= 2 MiB: what a window maps */
        guint8 key_id[DIGEST_SIZE]; /* who signed it */
        guint64 security_floor;
        guint64 entries;
        gint64 created_us; /* by its builder's clock */
        gint64 imported_us;
        char *description; /* or NULL */
} ReleaseRecord;
void release_record_free(ReleaseRecord *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ReleaseRecord, release_record_free)

/* Order of versions as dpkg has it (epoch, '~' before the end, digits as numbers). Pure. <0, 0, >0. */
int version_compare(const char *a, const char *b);

/* A release may have millions of paths, more than one turn of the loop can write: they come in pieces into a
 * row that nobody sees, and the last step makes it a release. They go in the same way: a removed release is
 * at once a row that nobody sees, and is swept. */

/* A row without a name; its id, or 0 on error. */
gint64 catalogue_release_prepare(Catalogue *c, GError **error);
gboolean catalogue_release_add_paths(Catalogue *c, gint64 id, const char *const *paths, gsize n,
                                     GError **error);
/* Event release.imported. BUSY if NAME VERSION is there with another digest, and if it is there with the
 * same. imported_us is set here. */
gboolean catalogue_release_publish(Catalogue *c, gint64 id, const ReleaseRecord *r, GError **error);
/* What was prepared will be swept. @id 0: everything; for the start, when no import is under way. */
gboolean catalogue_release_abandon(Catalogue *c, gint64 id, GError **error);
/* Takes away at most @rows paths of what was abandoned or removed. *ret_more: call again. */
gboolean catalogue_release_sweep(Catalogue *c, gint64 rows, gboolean *ret_more, GError **error);
/* All of it at once, for few paths (NULL-terminated). */
gboolean catalogue_release_add(Catalogue *c, const ReleaseRecord *r, const char *const *paths,
                               GError **error);
ReleaseRecord *catalogue_release_get(Catalogue *c, const char *name, const char *version, GError **error);
/* @spec: "NAME" (its highest version) or "NAME=VERSION". */
ReleaseRecord *catalogue_release_resolve(Catalogue *c, const char *spec, GError **error);
ReleaseRecord *catalogue_release_by_digest(Catalogue *c, const guint8 digest[static DIGEST_SIZE],
                                           GError **error);
/* By name, then highest version first. @name NULL: all. */
GPtrArray *catalogue_release_list(Catalogue *c, const char *name, GError **error);
/* U1: the newest release that has all of @paths (relative; NULL-terminated): the one created last among the
 * highest versions of each name that has them. NOT_FOUND names a path that no release has. */
ReleaseRecord *catalogue_release_with_paths(Catalogue *c, const char *const *paths, GError **error);
/* Event release.removed. BUSY while a push that is not final uses it. Its paths are left to be swept. */
gboolean catalogue_release_remove(Catalogue *c, const char *name, const char *version, GError **error);
