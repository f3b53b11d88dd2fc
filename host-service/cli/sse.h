/* host-service/cli/sse.h - server-sent events out of a stream of bytes. Pure: bytes in, events out.
 *
 * As the HTML standard has it: lines end in LF, CR or CRLF; "field: value"; an empty line ends an event;
 * lines that begin with ':' are comments. What has no data is no event. */
#pragma once

#include <glib.h>
#include <stddef.h>

typedef struct SseParser SseParser;

struct sse_event {
        const char *id;   /* the last one seen, as the standard says; NULL: none yet */
        const char *type; /* "message" if none was given */
        const char *data; /* lines joined by LF */
};

typedef void (*sse_func)(const struct sse_event *e, gpointer user);

SseParser *sse_parser_new(sse_func on_event, gpointer user);
void sse_parser_free(SseParser *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SseParser, sse_parser_free)
/* FALSE: an event is larger than 16 MiB; nothing more may be fed. */
gboolean sse_parser_feed(SseParser *p, const char *bytes, size_t len);
