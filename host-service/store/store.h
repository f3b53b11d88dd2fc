/* host-service/store/store.h - the store's own jobs: looking whether everything is whole, and letting go of
 * what nobody needs. docs/store.md.
 *
 * Theory of operation: both jobs work from a list that is made on the loop, do what blocks in a worker
 * thread, and judge on the loop again before anything is reported or removed: meanwhile releases may have
 * come and gone. One at a time; they begin anew after a restart, since each look is complete in itself and
 * each removal is a transaction of its own (the row first; a file without a row goes at the next start).
 */
#pragma once

#include "host-service/guest_view.h"
#include "host-service/jobs/jobs.h"
#include "host-service/release/releases.h"

#define STORE_KEEP_DEFAULT      2 /* newest versions of each name */
#define STORE_KEEP_MAX          1000
#define STORE_WAYS_BACK_DEFAULT 8 /* committed pushes of each VM */
#define STORE_WAYS_BACK_MAX     1000

typedef struct Store Store;

/* Registers the job kinds "store-verify" (request {}) and "store-gc" (request {"dry_run", "keep",
 * "ways_back"}, each of which may be missing). All must outlive the store. Before jobs_begin(). */
Store *store_new(const struct host_env *env, Catalogue *c, Jobs *j, Releases *releases,
                 const struct guest_view *guests, const char *trust_dir);
/* Cancels what runs and waits for the worker thread. */
void store_free(Store *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Store, store_free)
