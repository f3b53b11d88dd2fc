/* host-service/push/push_places.c - counted, and not kept: a push that ends in the middle of a turn leaves
 * nothing behind. */
#include "host-service/push/push_places.h"

struct push_places push_places_taken(const GPtrArray *running)
{
        struct push_places n = {0};

        for (guint i = 0; i < running->len; i++) {
                const Push *p = running->pdata[i];

                if (!push_takes_place(p))
                        continue;
                n.taken++;
                n.bytes += MIN(push_bytes(p), G_MAXUINT64 - n.bytes);
        }
        return n;
}

gboolean push_places_fit(const struct push_places *n, const Push *p, guint concurrent, guint64 bytes)
{
        guint64 wanted = push_bytes(p);

        if (n->taken == 0)
                return TRUE;
        return n->taken < concurrent && (bytes == 0 || (wanted <= bytes && n->bytes <= bytes - wanted));
}
