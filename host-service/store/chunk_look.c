/* host-service/store/chunk_look.c - fetching a chunk in order to compare it. */
#include "host-service/store/chunk_look.h"

#include "common/error.h"
#include "host-service/store/chunk_file.h"
#include "host-service/store/chunk_index.h"

static gboolean look_once(ObjectStore *o, const char *key, const guint8 *id, guint32 len, GError **ret_why,
                          GCancellable *cancellable, GError **error)
{
        g_autoptr(GError) why = NULL;
        g_autoptr(GBytes) stored = o->ops->get(o, key, OBJECT_MAX_BYTES, cancellable, &why), chunk = NULL;

        if (stored)
                chunk = chunk_unpack(stored, len, id, &why);
        if (chunk)
                return TRUE;
        if (g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND) ||
            g_error_matches(why, MOULT_ERROR, MOULT_ERROR_CORRUPT) ||
            g_error_matches(why, MOULT_ERROR, MOULT_ERROR_IO)) {
                *ret_why = g_steal_pointer(&why);
                return TRUE;
        }
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
}

gboolean chunk_look(ObjectStore *o, const guint8 id[static DIGEST_SIZE], guint32 len, GError **ret_why,
                    GCancellable *cancellable, GError **error)
{
        g_autofree char *key = chunk_key(id);
        g_autoptr(GError) first = NULL;

        *ret_why = NULL;
        return look_once(o, key, id, len, &first, cancellable, error) &&
               (!first || look_once(o, key, id, len, ret_why, cancellable, error));
}
