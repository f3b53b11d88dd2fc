/* host-service/cli/pack_file.h - a pack on this machine, opened and described. */
#pragma once

#include <json-glib/json-glib.h>

#include "shm/pack_reader.h"

/* A release is named by a file or by what moultd knows it as: a file has a '/' in its name or ends in .moult.
 */
gboolean pack_file_is_named(const char *text);

/* @trust_dir NULL: the signature is not judged. */
PackReader *pack_file_open(const char *path, const char *trust_dir, GCancellable *cancellable,
                           GError **error);

/* Everything that the list says about the release; with @entries also each entry. Paths and texts are made
 * safe
 * (\xNN). Transfer full. */
JsonNode *pack_file_describe(PackReader *r, gboolean entries);
