/* host-service/catalogue/schedules.h - when snapshots of a VM are taken by themselves, and how that went.
 * docs/snapshots.md, *Schedules*. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/catalogue/catalogue.h"

typedef struct {
        char *vm;        /* one schedule for each VM, which goes with it */
        gint64 every_us; /* from one to the next */
        gint at_minute;  /* of the day, in local time, that one of them is at; -1: none has to be */
        char *options;   /* JSON: "quiesce", "upload", and the rule for old ones: "keep_last"... */
        gint64 since_us; /* when it was set: the first of them is one period later, or at its time of day */
        gint64 next_us;
        char *operation;  /* that is under way for it: the snapshot, then the prune; NULL: none */
        gint64 last_us;   /* when the last one ended; 0: none has */
        gboolean last_ok; /* how */
        char *last_text;  /* why not; or NULL */
        guint failures;   /* since the last one that went well */
} ScheduleRecord;
void schedule_record_free(ScheduleRecord *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ScheduleRecord, schedule_record_free)

/* New, or instead of the VM's old one, which keeps what is under way and how the last one went. Event
 * schedule.set. NOT_FOUND: there is no such VM. */
gboolean catalogue_schedule_set(Catalogue *c, const ScheduleRecord *r, GError **error);
/* Event schedule.removed. NOT_FOUND: there is none. */
gboolean catalogue_schedule_remove(Catalogue *c, const char *vm, GError **error);
/* NULL without @error: there is none. */
ScheduleRecord *catalogue_schedule_get(Catalogue *c, const char *vm, GError **error);
/* All, the one that is due first before others. */
GPtrArray *catalogue_schedule_list(Catalogue *c, GError **error);
/* next, operation, last and failures are written. @event: "succeeded", "failed": type schedule.EVENT; NULL:
 * none.
 */
gboolean catalogue_schedule_update(Catalogue *c, const ScheduleRecord *r, const char *event, GError **error);

JsonObject *schedule_record_to_json(const ScheduleRecord *r);
