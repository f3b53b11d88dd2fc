/* host-service/push/push_places.h - how many pushes talk to their guests at once, and with how many bytes. */
#pragma once

#include "host-service/push/push.h"

/* What those that talk now have taken. */
struct push_places {
        guint taken;
        guint64 bytes;
};

struct push_places push_places_taken(const GPtrArray *running);
/* Whether @p may talk, too, where @concurrent may at once, with @bytes in all (0: any). However large its
 * pack is: if nobody else talks, it may. */
gboolean push_places_fit(const struct push_places *n, const Push *p, guint concurrent, guint64 bytes);
