/* host-service/catalogue/push_options.h - a push's options as JSON text, as the catalogue keeps them. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/catalogue/pushes.h"

/* A rollback that takes back what one certain push has brought, or nothing. */
gboolean push_rollback_names_push(const struct push_options *o);
JsonObject *push_options_to_json(const struct push_options *o);
/* Of our own making, so no reasons: FALSE if @text is not that. @ret->selection is owned by the caller. */
gboolean push_options_from_text(const char *text, struct push_options *ret);
