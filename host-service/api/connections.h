/* host-service/api/connections.h - the API's Unix socket: whoever may write to it may do everything. */
#pragma once

#include "host-service/api/peers.h"

#define API_CONNECTIONS_MAX 128

struct api_connections;

/* Binds @path (mode 0660; group @group or our own) and hands connections to @server. A socket file that
 * nobody answers at is replaced; BUSY if somebody does. */
struct api_connections *api_connections_new(SoupServer *server, const char *path, const char *group,
                                            GError **error);
/* Borrowed. */
const struct api_peers *api_connections_peers(const struct api_connections *c);
void api_connections_free(struct api_connections *c);
