/* guest-agent/cli/client.h - a command's conversation with the daemon: connect, ask, wait. Blocks; main
 * thread only. */
#pragma once

#include "guest-agent/cli/command.h"
#include "proto/message.h"

typedef struct Client Client;

/* Options that every such command has. */
struct client_options {
        char *socket;
        gboolean json;
};
#define CLIENT_OPTIONS(o)                                                                                    \
        {"socket", 0, 0, G_OPTION_ARG_FILENAME, &(o)->socket, "Socket of the daemon", "PATH"},               \
        {                                                                                                    \
                "json", 0, 0, G_OPTION_ARG_NONE, &(o)->json, "Print JSON", NULL                              \
        }

/* NULL with @error when no daemon answers: AGENT_EXIT_UNREACHABLE. */
Client *client_connect(const struct client_options *options, GError **error);
void client_free(Client *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Client, client_free)

/* The answer to @request, or the daemon's error. */
Message *client_ask(Client *c, Message *request, guint timeout_ms, GError **error);
/* The next state that the daemon tells by itself: of a push, or of a freeze for who has asked about one. */
Message *client_next_state(Client *c, GError **error);

/* Prints @error and returns AGENT_EXIT_UNREACHABLE. */
int client_unreachable(const GError *error);
