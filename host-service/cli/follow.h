/* host-service/cli/follow.h - watching one operation to its end, whatever happens to moultd meanwhile.
 *
 * Theory of operation: the event stream numbers what happens. We ask what the operation is now, then for
 * every event after the last one we saw; when the stream breaks (a restart of moultd, a time-out) we do the
 * same again. What ends the operation is in the database before it is in the stream, so nothing is missed. */
#pragma once

#include "host-service/cli/client.h"

/* Blocks, showing progress. Returns the final operation as GET /v1/operations/{id} gives it. Errors:
 * CANCELLED (the operation goes on, and the text says how to follow it), NOT_FOUND, CLI_ERROR_DAEMON (gone
 * for minutes). */
JsonNode *follow_operation(Cli *cli, Client *client, const char *id, GError **error);

/* Hands every event with a number above @after to @on_event, for ever if @until is negative, else up to that
 * number. Reconnects like follow_operation(). @on_event returns FALSE to end. */
typedef gboolean (*follow_func)(JsonObject *event, gpointer user);
gboolean follow_events(Client *client, const char *path, gint64 after, gint64 until, follow_func on_event,
                       gpointer user, GError **error);
