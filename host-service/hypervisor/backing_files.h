/* host-service/hypervisor/backing_files.h - on which backing files a VM's disks stand: pure, from QMP's
 * answer. */
#pragma once

#include <glib.h>
#include <json-glib/json-glib.h>

#define BACKING_FILES_MAX 256u /* of one VM; what is beyond is passed over */

/* Of the answer of `query-named-block-nodes` (flat or not): the names of all backing files, of every disk and
 * every depth, each once, as QEMU calls them. Images that nothing stands on are not among them. NULL if that
 * is no such answer. g_strfreev(). */
char **backing_files_of(JsonNode *result);
