/* host-service/catalogue/retention.h - how long the catalogue remembers what is over.
 *
 * Theory of operation: what makes the catalogue grow is asked for by operators and, worse, by guests. So each
 * kind of row has a bound that no guest can move: events by number and bytes, ended operations by age and
 * number, a guest's own ended operations by a number for each VM (no guest pushes another's history out),
 * plans by age here and by a number for each VM when they are written (plan.c). Rows go in small steps, so
 * that the loop serves others in between. The file keeps its size; its pages are used again.
 */
#pragma once

#include "host-service/catalogue/catalogue.h"

struct retention {
        gint64 events, event_bytes;          /* newest kept */
        gint64 operations, operation_age_us; /* ended ones: newest kept, and no older than that */
        gint64 operations_per_guest;         /* ended ones that a VM asked for itself: newest kept */
        gint64 plan_age_us;                  /* plans of ended pushes */
        gint64 idempotency_age_us;
};

/* One step of at most about @rows rows, each kind a transaction of its own. *ret_more: there is more to
 * forget, call again. */
gboolean catalogue_forget(Catalogue *c, const struct retention *keep, gint64 rows, gboolean *ret_more,
                          GError **error);
