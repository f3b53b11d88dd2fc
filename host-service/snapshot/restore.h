/* host-service/snapshot/restore.h - the state of a disk at a restore point, in a new image.
 * docs/snapshots.md, *Roll back*.
 *
 * From the files of this host, if all of them are here; else from the store. What is made is compared with
 * what it is made of (files), or has come in chunks that were compared with their names (store). All calls
 * from the loop. */
#pragma once

#include "host-service/env.h"
#include "host-service/snapshot/layer_line.h"

struct restore_goal {
        const GPtrArray *line; /* catalogue_layer_line() of the restore point; must live until @done */
        const char *path;      /* of the new image, which must not be there; absolute */
        /* All of the disk is in it; else it stands on the files of the line's base, which are here. */
        gboolean standalone;
        gboolean store_only; /* not from files, even if they are here */
};

struct restore_result {
        gboolean from_store;
        guint64 bytes;   /* of data that were written */
        guint64 fetched; /* from the store, compressed */
};
/* Exactly once, from the loop; the restore is gone then. @result is NULL if there is an @error, and there is
 * no image. NOT_FOUND: the state is neither in files of this host nor in the store. */
typedef void (*restore_done_func)(const struct restore_result *result, const GError *error, gpointer user);

typedef struct Restore Restore;
/* @objects may be NULL: there is no store. */
Restore *restore_start(const struct host_env *env, ObjectStore *objects, const struct restore_goal *goal,
                       restore_done_func done, gpointer user);
/* @done follows with CANCELLED, when the threads have stopped. */
void restore_cancel(Restore *r);
/* Bytes of the disk; for job_task_show(), until @done. */
const gint64 *restore_done_bytes(const Restore *r);
const gint64 *restore_total_bytes(const Restore *r);
