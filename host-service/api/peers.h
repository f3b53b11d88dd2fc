/* host-service/api/peers.h - the connections of one door, with a limit on their number, and who is at their
 * other end.
 *
 * A full house does not lock out the next one: the connection that has been idle longest makes room. */
#pragma once

#include <libsoup/soup.h>

#include "host-service/api/caller.h"

struct api_peers;

struct api_peers *api_peers_new(SoupServer *server, guint max);
/* Drops all of them. */
void api_peers_free(struct api_peers *p);
/* Hands @stream to the server. @socket: what it runs over. @address: an object of this connection alone.
 * Takes @caller's strings. */
void api_peers_add(struct api_peers *p, GIOStream *stream, GSocket *socket, GSocketAddress *local,
                   GSocketAddress *address, struct api_caller *caller);
/* Ends every connection; who may will be back. */
void api_peers_shut(struct api_peers *p);
guint api_peers_count(const struct api_peers *p);
/* Who sent it; NULL: not one of these. Borrowed. */
const struct api_caller *api_peers_caller(const struct api_peers *p, SoupServerMessage *msg);
