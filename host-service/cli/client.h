/* host-service/cli/client.h - asking moultd: HTTP and JSON over its Unix socket. Blocks; one thread. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/cli/cli.h"

typedef struct Client Client;

Client *client_new(Cli *cli);
void client_free(Client *c);
GCancellable *client_cancellable(Client *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Client, client_free)

/* One path from its format; every %s argument is escaped, so that a name can hold no '/' or '?'. Owned. */
char *client_path(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* The answer's body; transfer full. Errors: CLI_ERROR_DAEMON if nobody answers; CLI_ERROR_USAGE if moultd
 * says that a value is malformed; else the MoultError that moultd gave, with its hint. */
JsonNode *client_get(Client *c, const char *path, GError **error);
JsonNode *client_delete(Client *c, const char *path, GError **error);
/* @body: transfer full, may be NULL. @key: the Idempotency-Key, or NULL for one of its own: a request whose
 * answer is lost is sent again, and done once. */
JsonNode *client_post(Client *c, const char *path, JsonObject *body, const char *key, GError **error);

/* Opens a stream of server-sent events after @after. */
GInputStream *client_open_events(Client *c, const char *path, gint64 after, GError **error);

/* Waits, or until Ctrl-C: TRUE if the time has passed. */
gboolean client_pause(Client *c, unsigned ms, GError **error);
