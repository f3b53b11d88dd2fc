/* host-service/snapshot/layer_refs.c - a count for each layer that is read. */
#include "host-service/snapshot/layer_refs.h"

struct LayerRefs {
        GHashTable *counts; /* id -> count; none: 0 */
        layer_unused_func unused;
        gpointer user;
};

LayerRefs *layer_refs_new(layer_unused_func unused, gpointer user)
{
        LayerRefs *r = g_new0(LayerRefs, 1);

        r->counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        r->unused = unused;
        r->user = user;
        return r;
}

void layer_refs_free(LayerRefs *r)
{
        if (!r)
                return;
        g_hash_table_unref(r->counts);
        g_free(r);
}

guint layer_refs_count(const LayerRefs *r, const char *id)
{
        return GPOINTER_TO_UINT(g_hash_table_lookup(r->counts, id));
}

void layer_refs_take(LayerRefs *r, const char *id)
{
        g_hash_table_replace(r->counts, g_strdup(id), GUINT_TO_POINTER(layer_refs_count(r, id) + 1));
}

void layer_refs_drop(LayerRefs *r, const char *id)
{
        guint n = layer_refs_count(r, id);
        g_autofree char *copy = g_strdup(id); /* it may be in what @unused frees */

        g_assert(n > 0);
        if (n > 1) {
                g_hash_table_replace(r->counts, g_strdup(id), GUINT_TO_POINTER(n - 1));
                return;
        }
        g_hash_table_remove(r->counts, id);
        if (r->unused)
                r->unused(copy, r->user);
}

void layer_refs_take_all(LayerRefs *r, const GPtrArray *ids)
{
        for (guint i = 0; i < ids->len; i++)
                layer_refs_take(r, ids->pdata[i]);
}

void layer_refs_drop_all(LayerRefs *r, const GPtrArray *ids)
{
        for (guint i = 0; i < ids->len; i++)
                layer_refs_drop(r, ids->pdata[i]);
}
