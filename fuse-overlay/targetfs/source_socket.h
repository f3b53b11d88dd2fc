/* fuse-overlay/targetfs/source_socket.h - a pack's bytes, from the agent over its socket
 * (fuse-overlay/pack_socket.h). */
#pragma once

#include "shm/pack_source.h"

/* Bytes [0, @size) of the pack whose manifest has this digest. Connects when it is read. Several threads have
 * a connection each. A read that has no answer by the reader's deadline (read_deadline.h) is a TIMEOUT. */
PackSource *source_socket_new(const char *path, const guint8 manifest_digest[static 32], guint64 size);
