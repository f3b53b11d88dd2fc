/* host-service/release/build_delta.h - deltas against an old tree, put into a pack that is being made.
 *
 * Theory of operation: each file of the release gets a predecessor in the old tree (predecessor.h).
 * Neighbours are put together, up to LIMIT_DELTA_OUTPUT of new bytes and LIMIT_DELTA_PREFIX of old ones, and
 * made into one zstd frame over all their predecessors: what rebuilt files have in common is then sent once
 * (docs/decisions/0018-deltas-beside-the-list.md). A large file is cut, and each piece has the old bytes
 * around the same place. Files are read by the calling thread, frames made by several; the pack does not
 * depend on how many. */
#pragma once

#include "host-service/release/build_plan.h"
#include "shm/pack_writer.h"

#define BUILD_DELTA_LEVEL 19

struct build_delta_options {
        int level;        /* zstd's */
        unsigned threads; /* 0: one per CPU */
        /* Called in the calling thread with new bytes that were dealt with; may be NULL. */
        void (*observer)(uint64_t bytes, gpointer user);
        gpointer user;
};

struct build_delta_report {
        uint32_t frames, files; /* files: with a part in any of them */
        uint64_t bytes;         /* of the frames */
        uint64_t full_bytes;    /* what they stand for takes in the pack */
};

/* All entries of @plan are in @w. Adds to *report. */
gboolean build_delta_add(PackWriter *w, const BuildTree *new_tree, BuildTree *base, const GArray *plan,
                         const struct build_delta_options *options, GCancellable *cancellable,
                         struct build_delta_report *report, GError **error);
