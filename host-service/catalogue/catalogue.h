/* host-service/catalogue/catalogue.h - the durable state of the host service: one SQLite file, typed
 * functions.
 *
 * Theory of operation: whatever moultd must still know after a kill -9 is a row here before it is acted on.
 * WAL with synchronous=FULL: a commit that returned survives a power cut. A change of state and the event
 * that tells of it are ONE transaction, so an event stream can be resumed from any sequence number without a
 * gap, and nothing that was announced can be untrue. The nouns have a header each: vms.h, releases.h,
 * operations.h, pushes.h, event_log.h, idempotency.h. Loop thread only.
 *
 * Getters of one record set NOT_FOUND. Lists are GPtrArrays that own their records. Times are microseconds
 * since 1970.
 */
#pragma once

#include <gio/gio.h>

#include "common/digest.h"
#include "common/error.h"
#include "host-service/env.h"

typedef struct Catalogue Catalogue;

/* Opens env->catalogue_path and brings its schema up to this program's (a newer one is refused: UNSUPPORTED).
 */
Catalogue *catalogue_open(const struct host_env *env, GError **error);
void catalogue_close(Catalogue *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Catalogue, catalogue_close)

/* Several changes as one: every change function may be called inside. They nest; the outermost commits. After
 * any failure inside, call catalogue_rollback() (once per begin); the whole is undone. */
gboolean catalogue_begin(Catalogue *c, GError **error);
gboolean catalogue_commit(Catalogue *c, GError **error);
void catalogue_rollback(Catalogue *c);
/* Ends what catalogue_begin() began: commits if @ok, else rolls back. */
gboolean catalogue_end(Catalogue *c, gboolean ok, GError **error);

/* Called after a commit that added events, with the highest sequence number. At most 8 listeners. It must not
 * change the catalogue from inside: it wakes somebody up. */
typedef void (*catalogue_listener)(gint64 last_seq, gpointer user);
void catalogue_listen(Catalogue *c, catalogue_listener func, gpointer user);
void catalogue_unlisten(Catalogue *c, catalogue_listener func, gpointer user);

/* For tests and /v1/status. */
int catalogue_schema_version(const Catalogue *c);
