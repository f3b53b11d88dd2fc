/* host-service/api/connections.h - who may be connected: the API's Unix socket, with a limit on its peers.
 *
 * A full house does not lock out the administrator: the connection that has been idle longest makes room. */
#pragma once

#include <libsoup/soup.h>

#define API_CONNECTIONS_MAX 128

struct api_connections;

/* Binds @path (mode 0660; group @group or our own) and hands connections to @server. A socket file that
 * nobody answers at is replaced; BUSY if somebody does. */
struct api_connections *api_connections_new(SoupServer *server, const char *path, const char *group,
                                            GError **error);
guint api_connections_count(const struct api_connections *c);
void api_connections_free(struct api_connections *c);
