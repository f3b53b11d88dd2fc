/* shm/pack_content.h - the blobs of a pack that is being made: files in, stored bytes and digests out.
 *
 * Theory of operation: pack_content_add() reads a file in chunks and hands them to the encoder; chunks come
 * back in order and are appended to the pack. When a file's last chunk is back its digest is known: if a file
 * of the same content was there before, the bytes just written are cut off again and the blob is shared. So
 * memory is bounded by what is under way, and the pack depends only on what was added, in which order; not on
 * threads. The hash trees of the files take the same way and end up behind the blobs (shm/pack_trees.h). */
#pragma once

#include <gio/gio.h>

#include "proto/manifest.pb-c.h"

typedef struct PackContent PackContent;

/* Writes to @fd, which stays the caller's, from PACK_HEADER_SIZE on. @path: for messages. */
PackContent *pack_content_new(int fd, const char *path, int zstd_level, gboolean with_trees);
void pack_content_free(PackContent *p);

/* Called in the adding thread with the bytes of each chunk that was read. */
typedef void (*pack_content_observer)(uint64_t bytes, gpointer user);
void pack_content_set_observer(PackContent *p, pack_content_observer observer, gpointer user);

/* Adds what @fd holds as the content of @e: fills in its size and extents now, digest and blob at the latest
 * in pack_content_finish(). @e must live until pack_content_free(). */
gboolean pack_content_add(PackContent *p, Moult__Entry *e, int fd, GCancellable *cancellable, GError **error);
/* Everything that was added is written, its entries complete, the hash trees put behind the blobs. Once. */
gboolean pack_content_finish(PackContent *p, GError **error);

/* After that: of Moult__Blob, in order of offset; and where blobs and trees end, a multiple of PACK_ALIGN. */
const GPtrArray *pack_content_blobs(const PackContent *p);
uint64_t pack_content_end(const PackContent *p);
