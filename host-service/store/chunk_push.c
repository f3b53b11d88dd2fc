/* host-service/store/chunk_push.c - is it there, is it young, and if not: send it. */
#include "host-service/store/chunk_push.h"

#include "common/fault.h"
#include "host-service/store/chunk_file.h"

gboolean chunk_push_begin(struct chunk_push *p, GCancellable *cancellable, GError **error)
{
        gint64 now_s;

        if (!p->objects->ops->now(p->objects, &now_s, cancellable, error))
                return FALSE;
        p->fresh_since_s = now_s - SHARE_FRESH_S;
        return TRUE;
}

gboolean chunk_push_find(struct chunk_push *p, const char *key, gboolean *ret, GCancellable *cancellable,
                         GError **error)
{
        const struct object_store_ops *ops = p->objects->ops;
        gint64 modified_s;
        gboolean there;

        if (!ops->has(p->objects, key, &there, &modified_s, cancellable, error))
                return FALSE;
        /* Old ones may be garbage until our list is put. */
        if (there && modified_s < p->fresh_since_s &&
            !ops->touch(p->objects, key, &there, cancellable, error))
                return FALSE;
        *ret = there;
        return TRUE;
}

gboolean chunk_push_one(struct chunk_push *p, const uint8_t id[static DIGEST_SIZE], chunk_read_func read,
                        gpointer user, guint which, gsize *ret_sent, GCancellable *cancellable,
                        GError **error)
{
        g_autofree char *key = chunk_key(id);
        g_autoptr(GBytes) chunk = NULL, stored = NULL;
        gboolean there;

        if (!chunk_push_find(p, key, &there, cancellable, error))
                return FALSE;
        if (there) {
                __atomic_store_n(&p->reused, TRUE, __ATOMIC_RELAXED);
                *ret_sent = 0;
                return TRUE;
        }
        chunk = read(user, which, cancellable, error);
        if (!chunk)
                return FALSE;
        stored = chunk_pack(chunk);
        if (!p->objects->ops->put(p->objects, key, stored, cancellable, error))
                return FALSE;
        fault_point("share-chunk-put");
        *ret_sent = g_bytes_get_size(stored);
        return TRUE;
}
