/* host-service/snapshot/layer_refs.h - who reads layers just now: no file of a layer goes while somebody
 * does.
 *
 * In memory only: after a restart nobody reads, and jobs are taken up again before anything is removed. All
 * calls from the loop. */
#pragma once

#include <glib.h>

typedef struct LayerRefs LayerRefs;

/* Runs from inside layer_refs_drop(), when a layer's last reader has ended. */
typedef void (*layer_unused_func)(const char *id, gpointer user);

LayerRefs *layer_refs_new(layer_unused_func unused, gpointer user);
void layer_refs_free(LayerRefs *r); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LayerRefs, layer_refs_free)

/* For each one taken there is one drop. */
void layer_refs_take(LayerRefs *r, const char *id);
void layer_refs_drop(LayerRefs *r, const char *id);
/* Of each of @ids, an array of texts. */
void layer_refs_take_all(LayerRefs *r, const GPtrArray *ids);
void layer_refs_drop_all(LayerRefs *r, const GPtrArray *ids);
guint layer_refs_count(const LayerRefs *r, const char *id);
