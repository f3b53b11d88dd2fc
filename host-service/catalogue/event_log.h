/* host-service/catalogue/event_log.h - what happened, numbered without gaps in time: the API's event stream.
 */
#pragma once

#include "host-service/catalogue/catalogue.h"

typedef struct event_record {
        gint64 seq; /* ascending; the SSE id */
        gint64 time_us;
        char *type;           /* "push.stage", "operation.succeeded", "vm.added", ... */
        char *operation, *vm; /* or NULL */
        char *data;           /* JSON object: the changed thing as the API shows it */
} EventRecord;
void event_record_free(EventRecord *r);

/* Inside the transaction of the change that it tells of; alone it is a transaction of its own. */
gboolean catalogue_event_add(Catalogue *c, const char *type, const char *operation, const char *vm,
                             const char *data, GError **error);
/* Events with seq > @after, oldest first. @operation, @vm NULL: all. */
GPtrArray *catalogue_event_list(Catalogue *c, gint64 after, const char *operation, const char *vm,
                                guint limit, GError **error);
gint64 catalogue_event_last(Catalogue *c); /* 0: none yet */
/* Highest sequence number that was forgotten: a stream can resume from any number >= this. */
gint64 catalogue_event_forgotten(Catalogue *c);
/* Forgets all but the newest @keep events. */
gboolean catalogue_event_prune(Catalogue *c, gint64 keep, GError **error);
