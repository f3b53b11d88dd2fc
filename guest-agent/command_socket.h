/* guest-agent/command_socket.h - where the guest's own commands ask: a Unix socket of root's (mode 0600). */
#pragma once

#include "guest-agent/peers.h"

typedef struct CommandSocket CommandSocket;

/* Makes @path (its directory too, 0755). A socket that was left behind is replaced: the caller holds the
 * engine's lock, so nobody listens on it. */
CommandSocket *command_socket_new(const char *path, Peers *peers, GError **error);
/* Removes the socket. */
void command_socket_free(CommandSocket *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CommandSocket, command_socket_free)
