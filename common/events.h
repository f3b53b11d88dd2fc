/* common/events.h - structured log: events with stable ids that an operator can search and act on.
 *
 * Lines go to stderr as "LEVEL event-id: text key=value ..." (journald adds the rest); under systemd also as
 * native fields MOULT_EVENT=..., so `journalctl MOULT_EVENT=push-failed` works. docs/events.md lists the ids
 * with what is and is not affected and what to do. Library code returns errors; only the one who decides
 * logs. */
#pragma once

#include <glib.h>

typedef enum { EVENT_DEBUG, EVENT_INFO, EVENT_NOTICE, EVENT_WARNING, EVENT_ERROR } EventLevel;

/* Lowest level that is written; default INFO. */
void event_set_level(EventLevel level);

/* Told of every event, also of those that are not written; from the thread that logs. @event_id lives as long
 * as the program. NULL: nobody any more. */
typedef void (*event_observer)(EventLevel level, const char *event_id, gpointer user);
void event_set_observer(event_observer func, gpointer user);

/* TRUE: from now on events are kept in memory (a bounded number of them), since where they go cannot be
 * written; FALSE: they are written now, and those to come at once. Any thread. @event_id of an event must
 * live as long as the program. */
void event_hold(gboolean hold);

/* @fields: alternating key, value strings, ended by NULL; values are escaped. */
void event_log(EventLevel level, const char *event_id, const char *text, ...) G_GNUC_NULL_TERMINATED;
