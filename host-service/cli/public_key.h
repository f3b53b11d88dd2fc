/* host-service/cli/public_key.h - a key file of either kind, for showing. */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "common/digest.h"

/* Reads a private or public Ed25519 key in PEM. *ret_private says which it was. */
gboolean public_key_id_of_file(const char *path, uint8_t ret_id[static DIGEST_SIZE], bool *ret_private,
                               GError **error);
