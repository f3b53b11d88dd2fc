/* host-service/release/build_digest.h - fs-verity digests of many files of a tree, in parallel. */
#pragma once

#include "host-service/release/build_tree.h"

/* Called from worker threads, once per file that is done. */
typedef void (*build_digest_observer)(uint64_t size_bytes, gpointer user);

/* Sets the digest of each node in @wanted (guint indices of leaders). @threads 0: one per CPU. Stops at the
 * first error, which names the file; CANCELLED if @cancellable was. */
gboolean build_digest_run(BuildTree *t, const GArray *wanted, unsigned threads,
                          build_digest_observer observer, gpointer user, GCancellable *cancellable,
                          GError **error);
