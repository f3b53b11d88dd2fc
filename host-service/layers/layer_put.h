/* host-service/layers/layer_put.h - the steps by which a layer comes into the store, for worker threads;
 * layers/layer_upload.c puts them in order.
 *
 * Theory of operation: first the layer is read once and cut (layer_cut.h), so that all its chunks are known;
 * the data are not kept. Then each chunk is looked for in the store, and read again if it has to be sent.
 * Then the map is put, read back and compared, and all chunks are looked for once more: a collection of
 * garbage may have taken some before the map named them (an upload may take longer than its grace), and these
 * are sent again. A map that is there therefore has all its chunks, and an upload that ends well has seen it.
 */
#pragma once

#include "host-service/layers/layer_cut.h"
#include "host-service/store/chunk_push.h"

struct layer_put {
        const char *id;
        struct layer_reader *reader, *parent; /* parent: or NULL */
        struct chunk_push push;
        LayerMap *map;
        GArray *extents; /* of layer_chunk_extents() */
        uint8_t digest[DIGEST_SIZE];
        gboolean is_there;              /* the store has this very map */
        gboolean replaces;              /* or another one by that name */
        gint64 sent_chunks, sent_bytes; /* atomic */
        GMutex lock;                    /* a reader has one caller at a time */
};
/* Nothing is owned but what the steps make. */
void layer_put_init(struct layer_put *p, ObjectStore *objects, const char *id, struct layer_reader *reader,
                    struct layer_reader *parent);
void layer_put_clear(struct layer_put *p);

/* Makes the map. *progress as in layer_cut(). */
gboolean layer_put_cut(struct layer_put *p, gint64 *progress, GCancellable *cancellable, GError **error);
/* Whether the store has it already; one that is there is made young. */
gboolean layer_put_find(struct layer_put *p, GCancellable *cancellable, GError **error);
/* One chunk, unless it is there; *ret_sent as in chunk_push_one(). Several at once. */
gboolean layer_put_chunk(struct layer_put *p, guint chunk, gsize *ret_sent, GCancellable *cancellable,
                         GError **error);
/* The map, unless it is there; read back. CORRUPT: what comes back is something else. */
gboolean layer_put_map(struct layer_put *p, gsize *ret_sent, GCancellable *cancellable, GError **error);
/* Fetches a chunk and compares it. CORRUPT, NOT_FOUND. */
gboolean layer_put_verify(struct layer_put *p, guint chunk, GCancellable *cancellable, GError **error);
