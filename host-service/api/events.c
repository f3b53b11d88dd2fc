/* host-service/api/events.c - /v1/events: where a stream begins. */
#include <string.h>

#include "common/error.h"
#include "host-service/api/event_stream.h"
#include "host-service/catalogue/event_log.h"

/* The number after which the client wants to hear: its Last-Event-ID, else `after`, else that operation's
 * beginning, else what happens from now on. */
static gboolean find_start(struct api_call *call, gint64 *ret, GError **error)
{
        Catalogue *c = call->api->catalogue;
        const char *id = soup_message_headers_get_one(soup_server_message_get_request_headers(call->msg),
                                                      "Last-Event-ID");
        gint64 last = catalogue_event_last(c), after;

        if (id && id[0]) {
                if (strspn(id, "0123456789") != strlen(id) ||
                    !g_ascii_string_to_signed(id, 10, 0, G_MAXINT64, &after, NULL)) {
                        g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                            "the header Last-Event-ID must be an event's number");
                        return FALSE;
                }
        } else {
                after = fields_query_number(call->query, "after",
                                            g_hash_table_contains(call->query, "operation") ? 0 : last);
        }
        if (after > last) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                            "event %" G_GINT64_FORMAT
                            " has not happened here yet, the last one is %" G_GINT64_FORMAT
                            ": was the catalogue replaced? Begin anew from GET /v1/operations",
                            after, last);
                return FALSE;
        }
        *ret = after;
        return TRUE;
}

gboolean api_events_get(struct api_call *call, GError **error)
{
        gint64 after, forgotten = catalogue_event_forgotten(call->api->catalogue);

        if (!find_start(call, &after, error))
                return FALSE;
        /* 0 is "from the oldest that you have": no promise is broken. */
        if (after > 0 && after < forgotten) {
                g_autoptr(GError) lost = g_error_new(
                        MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                        "the events from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT
                        " are no longer kept; read the present state from GET /v1/operations, then "
                        "listen with after=%" G_GINT64_FORMAT,
                        after + 1, forgotten, catalogue_event_last(call->api->catalogue));

                call_answer(call, SOUP_STATUS_GONE, call_error_json(lost));
                return TRUE;
        }
        return api_streams_add(call->api->streams, call->msg, after,
                               g_hash_table_lookup(call->query, "operation"),
                               g_hash_table_lookup(call->query, "vm"), error);
}
