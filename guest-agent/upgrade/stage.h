/* guest-agent/upgrade/stage.h - makes every new object complete, next to where it will live.
 *
 * Theory of operation: files are cut into units of work (a batch of small neighbours in the pack; a few
 * chunks of a large file), in the pack's order. Worker threads take unit after unit: read a chunk into
 * private memory, hash it, write it, while it is in the cache. The last one to finish a file compares the
 * digest, sets the metadata and reads them back. No data is read twice and nothing is synced file by file,
 * unless asked for (gentle).
 *
 * Over a session, deltas come first (stage_delta.h).
 *
 * What is found already staged (from a delta, or the agent was restarted) is read from there instead of from
 * the pack; the digest decides whether that was right, and if not, the file is made again from the pack
 * alone. */
#pragma once

#include <gio/gio.h>

#include "guest-agent/upgrade/plan.h"
#include "shm/pack_reader.h"

/* From any thread: that many more bytes are staged. */
typedef void (*stage_progress)(guint64 bytes, gpointer user);

/* Instant mode stages in two goes. */
typedef enum {
        STAGE_NOW,      /* everything that is not deferred */
        STAGE_DEFERRED, /* only that */
} StageWhat;

struct stage_options {
        StageWhat what;
        int root_fd;
        const int *area_fds; /* AREA/.moult/N, by area; -1: nothing is staged there */
        int incoming_fd;     /* of the store, for what is merged; -1: nothing is */
        unsigned workers;
        gboolean gentle; /* fsync file by file, paced by the pressure on the disk */
        gboolean idle_io;
        struct stage_deltas *deltas; /* stage_delta.h; NULL: none are used */
        stage_progress progress;
        gpointer user;
};

/* The staging directory of the entry, borrowed. */
static inline int stage_directory(const struct stage_options *o, const struct plan_entry *pe)
{
        return pe->how == HOW_MERGE ? o->incoming_fd : o->area_fds[pe->area];
}

/* Fills in new_inode of every staged entry. On an error everything staged stays, for the caller to remove or
 * resume. */
gboolean stage_run(Plan *p, PackReader *pack, const struct stage_options *options, GCancellable *cancellable,
                   GError **error);
