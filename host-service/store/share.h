/* host-service/store/share.h - releases to and from the shared store, as jobs. docs/store.md.
 *
 * Theory of operation: a push cuts the pack, puts the chunks that the store lacks, and the release's index
 * last: an index that is there has all its chunks. A pull reads the index, takes what chunks it can from
 * packs of the same name that are here, fetches the others, and hands the file to the import, which judges it
 * by signature and digests like any other (release/import.h). Nothing of a job counts before its last step,
 * so it begins anew after a restart; chunks that were put are found there. */
#pragma once

#include "host-service/object_store.h"
#include "host-service/release/releases.h"

/* A chunk that no release names stays for so long. Longer than any push takes: a push does not count on
 * chunks that are older than SHARE_FRESH_S when it begins, but makes them young (store/chunk_push.h). */
#define SHARE_GRACE_HOURS_DEFAULT 24
#define SHARE_GRACE_HOURS_MIN     1
#define SHARE_GRACE_HOURS_MAX     8760

typedef struct Share Share;

/* Registers "store-push" and "store-pull" (request {"release", "version"}), "store-verify-shared" ({}), and
 * "store-gc-shared" ({"dry_run", "grace_hours"}, which may be missing). @objects is the caller's and must
 * outlive it; NULL: there is none, and the jobs fail. */
Share *share_new(const struct host_env *env, Catalogue *c, Jobs *j, Releases *releases, ObjectStore *objects);
void share_free(Share *s);
