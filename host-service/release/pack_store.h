/* host-service/release/pack_store.h - the store and the catalogue brought into agreement, at start. */
#pragma once

#include "host-service/catalogue/catalogue.h"

/* Removes files without a row: what a killed import or removal left. Reports (log) rows without a file.
 * Blocks. */
gboolean pack_store_clean(const struct host_env *env, Catalogue *c, GError **error);
