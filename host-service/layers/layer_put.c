/* host-service/layers/layer_put.c - cutting, looking, sending, comparing. */
#include "host-service/layers/layer_put.h"

#include <string.h>

#include "common/error.h"
#include "common/fault.h"
#include "host-service/store/chunk_file.h"

void layer_put_init(struct layer_put *p, ObjectStore *objects, const char *id, struct layer_reader *reader,
                    struct layer_reader *parent)
{
        *p = (struct layer_put){.id = id, .reader = reader, .parent = parent, .push.objects = objects};
        g_mutex_init(&p->lock);
}

void layer_put_clear(struct layer_put *p)
{
        g_clear_pointer(&p->map, layer_map_free);
        g_clear_pointer(&p->extents, g_array_unref);
        g_mutex_clear(&p->lock);
}

gboolean layer_put_cut(struct layer_put *p, gint64 *progress, GCancellable *cancellable, GError **error)
{
        p->map = layer_cut(p->reader, p->parent, progress, cancellable, error);
        if (!p->map) {
                g_prefix_error(error, "reading layer %s: ", p->id);
                return FALSE;
        }
        p->extents = layer_chunk_extents(p->map);
        return TRUE;
}

/* *ret_equal: the map that is there is ours. One that is damaged, or another one, will be replaced. */
static gboolean compare(struct layer_put *p, gboolean *ret_equal, GCancellable *cancellable, GError **error)
{
        ObjectStore *o = p->push.objects;
        g_autofree char *key = layer_key(p->id);
        g_autoptr(GBytes) stored = o->ops->get(o, key, OBJECT_MAX_BYTES, cancellable, error);
        g_autoptr(LayerMap) there = NULL;

        if (!stored)
                return FALSE;
        there = layer_map_unpack(stored, NULL, NULL);
        *ret_equal = there && layer_map_equal(there, p->map);
        return TRUE;
}

gboolean layer_put_find(struct layer_put *p, GCancellable *cancellable, GError **error)
{
        g_autofree char *key = layer_key(p->id);
        g_autoptr(GError) why = NULL;
        gboolean there;

        p->is_there = p->replaces = FALSE;
        if (!chunk_push_begin(&p->push, cancellable, error) ||
            !chunk_push_find(&p->push, key, &there, cancellable, error))
                return FALSE;
        if (!there)
                return TRUE;
        if (compare(p, &p->is_there, cancellable, &why)) {
                p->replaces = !p->is_there;
                return TRUE;
        }
        if (g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                return TRUE; /* collected, just now */
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
}

static GBytes *read_chunk(gpointer user, guint which, GCancellable *cancellable, GError **error)
{
        struct layer_put *p = user;
        GBytes *chunk;

        g_mutex_lock(&p->lock);
        chunk = layer_chunk_read(p->reader, p->map, p->extents, which, cancellable, error);
        g_mutex_unlock(&p->lock);
        if (!chunk)
                g_prefix_error(error, "reading layer %s: ", p->id);
        return chunk;
}

gboolean layer_put_chunk(struct layer_put *p, guint chunk, gsize *ret_sent, GCancellable *cancellable,
                         GError **error)
{
        const struct layer_chunk *c = &g_array_index(p->map->chunks, struct layer_chunk, chunk);
        gsize sent;

        if (!chunk_push_one(&p->push, c->id, read_chunk, p, chunk, &sent, cancellable, error))
                return FALSE;
        if (sent > 0) {
                __atomic_add_fetch(&p->sent_chunks, 1, __ATOMIC_RELAXED);
                __atomic_add_fetch(&p->sent_bytes, (gint64)sent, __ATOMIC_RELAXED);
        }
        *ret_sent = sent;
        return TRUE;
}

gboolean layer_put_map(struct layer_put *p, gsize *ret_sent, GCancellable *cancellable, GError **error)
{
        ObjectStore *o = p->push.objects;
        g_autofree char *key = layer_key(p->id);
        g_autoptr(GBytes) ours = layer_map_pack(p->map, p->digest, error);
        gboolean equal;

        if (!ours)
                return FALSE;
        *ret_sent = 0;
        if (p->is_there)
                return TRUE;
        fault_point("layer-map");
        if (!o->ops->put(o, key, ours, cancellable, error))
                return FALSE;
        fault_point("layer-map-put");
        *ret_sent = g_bytes_get_size(ours);
        __atomic_add_fetch(&p->sent_bytes, (gint64)*ret_sent, __ATOMIC_RELAXED);
        if (!compare(p, &equal, cancellable, error))
                return FALSE;
        if (!equal)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "%s: %s: what was put does not come back as it was", o->name, key);
        return equal;
}

gboolean layer_put_verify(struct layer_put *p, guint chunk, GCancellable *cancellable, GError **error)
{
        const struct layer_chunk *c = &g_array_index(p->map->chunks, struct layer_chunk, chunk);
        ObjectStore *o = p->push.objects;
        g_autofree char *key = chunk_key(c->id);
        g_autoptr(GBytes) stored = o->ops->get(o, key, OBJECT_MAX_BYTES, cancellable, error), bytes = NULL;

        if (stored)
                bytes = chunk_unpack(stored, c->len, c->id, error);
        if (!bytes)
                g_prefix_error(error, "%s: %s: ", o->name, key);
        return bytes != NULL;
}
