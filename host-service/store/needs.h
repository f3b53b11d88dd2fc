/* host-service/store/needs.h - who needs which release, and which files of the store belong to somebody: what
 * garbage collection asks before it takes anything.
 *
 * A release is needed while a push of it is not final, while a VM is on it or may roll back to it, while a
 * window with it may be plugged, and while it is among the newest of its name. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/catalogue/release_users.h"
#include "host-service/guest_view.h"

typedef struct StoreNeeds StoreNeeds;

/* A look at the catalogue and at the guests, right now; good until the loop turns. */
StoreNeeds *store_needs_look(Catalogue *c, const struct guest_view *guests, guint keep, guint ways_back,
                             GError **error);
void store_needs_free(StoreNeeds *n);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreNeeds, store_needs_free)

/* Of ReleaseRecord, as catalogue_release_list() orders them. Borrowed. */
const GPtrArray *store_needs_releases(const StoreNeeds *n);
/* Of ReleaseUser, with the windows. Borrowed. */
const GPtrArray *store_needs_users(const StoreNeeds *n);
/* Why the release at @index stays: [{"use", "vm"}], "newest" without a VM; NULL: nobody needs it. */
JsonArray *store_needs_why(const StoreNeeds *n, guint index);
/* A file that a release has, or that an operation which has not ended may be writing. */
gboolean store_needs_file(const StoreNeeds *n, const char *file);
