/* host-service/layers/layer_task.h - a layer into the store, and restore points out of it, for a job on the
 * loop.
 *
 * For callers (host-service/snapshot): start one with a reader (writer) whose owner knows of images
 * (layers/layer_disk.h), show layer_task_progress() by job_task_show(), end with `done`. All calls from the
 * loop. Nothing of an upload counts before its last step, so one that was interrupted by whatever is begun
 * anew with the same id, and finds what it has sent. Nothing of a restore counts before its end: what the
 * writer has got until a failure is to be thrown away.
 *
 *     LayerUpload *u = layer_upload_start(env, env->objects, "01JDX7...-0", reader, parent, &options, done,
 * t); job_task_show(&t->job, env, &layer_upload_progress(u)->done, &layer_upload_progress(u)->total);
 *     ...
 *     done(result, error, t): remember result->map_digest beside the layer; the layer is uploaded
 *
 * Errors: the store's (object_store.h) after some attempts, the reader's and writer's, UNSUPPORTED (beyond
 * what a map can hold), CORRUPT (the store gives wrong bytes, again and again), CANCELLED. What could not be
 * sent harms nothing: chunks without a map are garbage, and are collected. */
#pragma once

#include "host-service/env.h"
#include "host-service/layers/layer_io.h"
#include "host-service/layers/layer_map.h"

struct layer_progress {
        gint64 done, total; /* bytes read and then sent (or there), or written; done: atomic, ends as total */
        gint64 moved_bytes; /* atomic: to or from the store, compressed */
};

struct layer_upload_options {
        guint64 rate_bytes_per_s; /* of what is sent, on the average; 0: no limit */
        gboolean verify; /* every chunk is fetched and compared at the end, also those that were there */
};

struct layer_upload_result {
        uint8_t map_digest[DIGEST_SIZE]; /* what manifests and the catalogue call the map by */
        guint64 data_bytes;              /* of the disk that the layer has, without zeros */
        guint chunks;                    /* different ones */
        guint64 sent_chunks, sent_bytes; /* that the store had not; bytes with the map, compressed */
        gboolean already_there;          /* the store had this very map */
};
/* Exactly once, from the loop; the upload is gone then, reader and parent are the caller's again. @result is
 * NULL if there is an @error; both are valid during the call. */
typedef void (*layer_upload_done)(const struct layer_upload_result *result, const GError *error,
                                  gpointer user);

typedef struct LayerUpload LayerUpload;
/* @id: layer_id_is_valid(). @parent: all of what the layer stands on, or NULL: then blocks that are the same
 * in it are stored again. @objects, @reader and @parent must live until @done. @options: NULL: none. */
LayerUpload *layer_upload_start(const struct host_env *env, ObjectStore *objects, const char *id,
                                struct layer_reader *reader, struct layer_reader *parent,
                                const struct layer_upload_options *options, layer_upload_done done,
                                gpointer user);
/* @done follows with CANCELLED, as soon as the threads have stopped. */
void layer_upload_cancel(LayerUpload *u);
const struct layer_progress *layer_upload_progress(const LayerUpload *u); /* until @done */

struct layer_ref {
        const char *id;
        const uint8_t *map_digest; /* NULL: it is not known, and the store believed */
};

struct layer_restore_options {
        guint64 rate_bytes_per_s; /* of what is fetched */
        /* Chunks are looked for here first, by any thread; what it gives is compared. NULL: they are fetched.
         */
        GBytes *(*find_chunk)(gpointer cache, const struct layer_chunk *chunk);
        gpointer cache;
        gint64 *done, *total; /* counted as layer_restore_progress() does, for who shows it before there is
                                 one; or NULL */
};

struct layer_restore_result {
        guint64 data_bytes, zero_bytes; /* written */
        guint chunks, found;            /* different ones; of them in the cache */
        guint64 fetched_bytes;          /* compressed */
};
typedef void (*layer_restore_done)(const struct layer_restore_result *result, const GError *error,
                                   gpointer user);

typedef struct LayerRestore LayerRestore;
/* Fetches the maps of the @n layers (at least 1; @newest_first is copied), and writes what is seen through
 * them. What is absent in all of them is not written: the writer's file shows there what it stands on. The
 * newest layer's disk must have the writer's size: CORRUPT. @objects, @writer and the cache must live until
 * @done. */
LayerRestore *layer_restore_start(const struct host_env *env, ObjectStore *objects,
                                  const struct layer_ref *newest_first, guint n, struct layer_writer *writer,
                                  const struct layer_restore_options *options, layer_restore_done done,
                                  gpointer user);
void layer_restore_cancel(LayerRestore *r);
const struct layer_progress *layer_restore_progress(const LayerRestore *r);

/* For find_chunk: @cache is an ObjectStore that is near, such as object_store_dir_new(DIR), with chunks under
 * their keys. */
GBytes *layer_find_in_store(gpointer cache, const struct layer_chunk *chunk);
