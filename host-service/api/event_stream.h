/* host-service/api/event_stream.h - the event log as server-sent events.
 *
 * Theory of operation: a stream is a cursor into the catalogue's log. When something was added, or when the
 * peer has taken what it was sent, the next rows after the cursor are read and sent: nothing is queued in
 * memory for a slow reader, nothing is lost for one that comes back with the last id it saw. One that is so
 * slow that the log has forgotten what it has yet to see is ended, never sent on across the gap. Comment
 * lines keep idle streams alive.
 */
#pragma once

#include "host-service/api/call.h"

#define API_STREAMS_MAX 64

struct api_streams;

struct api_streams *api_streams_new(const struct host_env *env, Catalogue *c);
void api_streams_free(struct api_streams *s);
/* Begins to stream on @msg: events with a number > @after, or from the oldest that is kept. BUSY when there
 * are too many. */
guint api_streams_count(const struct api_streams *a);
gboolean api_streams_add(struct api_streams *s, SoupServerMessage *msg, gint64 after, const char *operation,
                         const char *vm, GError **error);
