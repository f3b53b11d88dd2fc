/* guest-agent/pack_server.h - gives the bytes of the pack that is being pushed to the servers of merges, over
 * a Unix socket of root's (fuse-overlay/pack_socket.h).
 *
 * Theory of operation: in instant mode moult-targetfs reads the pack in shared memory by itself. Once that is
 * gone only the agent has other ways to the host, behind the same PackSource that staging reads from. A read
 * blocks, so each connection has a thread; their number is bounded, and so is what one may ask for at once.
 */
#pragma once

#include "shm/pack_source.h"

typedef struct PackServer PackServer;

#define PACK_SERVER_CONNECTIONS_MAX 16u

/* Listens at @path (mode 0600; its directory is made, 0755; a socket that was left behind is replaced).
 * Accepts in the thread-default main context. */
PackServer *pack_server_new(const char *path, GError **error);
/* Closes all connections, without an answer to what is being read, cancels the reads and waits for the
 * threads. */
void pack_server_free(PackServer *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PackServer, pack_server_free)

/* From now on requests for the pack with this manifest digest are read from @source (a reference is taken);
 * NULL: there is none. What is being read of the one before is cancelled, and nobody reads from it any more
 * when this returns. Any thread, one at a time. */
void pack_server_set(PackServer *s, const guint8 manifest_digest[static 32], PackSource *source);
const char *pack_server_path(const PackServer *s);
