/* host-service/store/check.h - the look at everything in the store, for a worker thread.
 *
 * Each release of a list that the loop has made: is its file there, sealed and as long as it must be, signed
 * by a trusted key, the one that the row names, and has every content its digest? Then the files that belong
 * to no release, and the catalogue's own file. What is found is collected, never acted on, and the look goes
 * on to the end: an operator gets the whole list at once. */
#pragma once

#include "host-service/env.h"
#include "host-service/store/report.h"

struct store_check {
        const struct host_env *env;
        char *trust_dir;
        GPtrArray *releases; /* of ReleaseRecord */
        gint64 done, total;  /* bytes of packs; atomic: the loop looks at them */
        /* results: */
        GPtrArray *findings; /* of Finding */
        guint64 files, bytes;
};
/* Takes @releases. */
struct store_check *store_check_new(const struct host_env *env, const char *trust_dir, GPtrArray *releases);
void store_check_free(struct store_check *c);

/* FALSE: it could not be done (CANCELLED; the keys or the store's directory cannot be read). What is damaged
 * is no such error. */
gboolean store_check_run(struct store_check *c, GCancellable *cancellable, GError **error);
/* A file of the store that none of @releases names; also for garbage collection. */
gboolean store_file_is_known(const GPtrArray *releases, const char *file);
