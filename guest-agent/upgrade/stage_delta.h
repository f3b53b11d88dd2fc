/* guest-agent/upgrade/stage_delta.h - files put together from what is here already and a delta.
 *
 * Theory of operation: before anything else is staged, each frame of the pack's deltas (shm/pack_deltas.h)
 * that gives something which is wanted is looked at: are the old files that it looks back at here, by their
 * digests, and does it cost less than the blobs? Then they are copied to private memory, the frame is
 * fetched, and what it gives is written under the names of the staged files. From there on these are like
 * files of an interrupted run: staging hashes what it finds, and takes the whole blob where the digest does
 * not fit. So nothing here can fail an upgrade; what could not be used is counted and told.
 *
 * One frame at a time: LIMIT_DELTA_PREFIX + LIMIT_DELTA_OUTPUT and the frame itself, 32 MiB at most. */
#pragma once

#include "guest-agent/upgrade/stage.h"

/* What deltas did. Staging threads add to it. */
struct stage_deltas {
        GMutex lock; /* protects all */
        guint files; /* that were put together */
        guint64 bytes, saved_bytes;
        guint unsuited; /* frames whose old files are not here */
        guint failed;   /* frames or files that turned out wrong, although all was as it should be */
        char *text;     /* the first reason of these */
};
void stage_deltas_init(struct stage_deltas *d);
void stage_deltas_clear(struct stage_deltas *d);
/* A file that was put together is not what it should be; @full_bytes are fetched for it after all. @d may be
 * NULL. */
void stage_deltas_undo(struct stage_deltas *d, const char *path, guint64 full_bytes);

/* True if bytes of the pack cost something: over a session. A window or a file is read faster than a delta
 * is. */
gboolean stage_deltas_pay(PackReader *pack);

/* Marks what it has staged (plan_entry.seeded). */
void stage_deltas_run(Plan *p, PackReader *pack, const struct stage_options *options,
                      GCancellable *cancellable);
