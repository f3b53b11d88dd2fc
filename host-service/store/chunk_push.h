/* host-service/store/chunk_push.h - one chunk on its way to the shared store: the step that releases and
 * layers have in common. Blocks; several at once.
 *
 * Theory of operation: a chunk that is there is not sent. But what no list names is garbage, which a
 * collection may take at any time (store/share_gc.c), and the list that names ours is put after its chunks.
 * So a chunk that is there and older than SHARE_FRESH_S is made young before it is counted on, and is looked
 * at once more when the list is put. */
#pragma once

#include "host-service/object_store.h"
#include "host-service/store/chunk_index.h"

#define SHARE_FRESH_S (30 * 60) /* much less than the shortest grace of a collection */

struct chunk_push {
        ObjectStore *objects;
        gint64 fresh_since_s; /* by the store's clock: older chunks are made young */
        gboolean reused;      /* atomic: chunks were there */
};

/* The bytes of chunk @which, of the length and the name that it must have; any thread. */
typedef GBytes *(*chunk_read_func)(gpointer user, guint which, GCancellable *cancellable, GError **error);

/* Asks the store for its time, from which the push counts. Again before a push that was begun anew. */
gboolean chunk_push_begin(struct chunk_push *p, GCancellable *cancellable, GError **error);
/* The chunk @id is there, and young, afterwards. @read is called only if it has to be sent; *ret_sent: bytes
 * that were sent, 0 if it was there. Errors: the store's, and @read's. */
gboolean chunk_push_one(struct chunk_push *p, const uint8_t id[static DIGEST_SIZE], chunk_read_func read,
                        gpointer user, guint which, gsize *ret_sent, GCancellable *cancellable,
                        GError **error);
/* Whether the object @key is there; one that is, and is older than the push, is made young. */
gboolean chunk_push_find(struct chunk_push *p, const char *key, gboolean *ret, GCancellable *cancellable,
                         GError **error);
