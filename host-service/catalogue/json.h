/* host-service/catalogue/json.h - records as the JSON that the API and the event stream show. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/catalogue/drift.h"
#include "host-service/catalogue/event_log.h"
#include "host-service/catalogue/operations.h"
#include "host-service/catalogue/pushes.h"
#include "host-service/catalogue/releases.h"
#include "host-service/catalogue/rollouts.h"
#include "host-service/catalogue/vms.h"

JsonObject *vm_record_to_json(const VmRecord *r);
JsonObject *release_record_to_json(const ReleaseRecord *r);
JsonObject *operation_record_to_json(const OperationRecord *r); /* without its pushes */
/* With progress: percent, bytes, rate (bytes per second since staging began), eta. */
JsonObject *push_record_to_json(const PushRecord *r);
JsonObject *rollout_record_to_json(const RolloutRecord *r, const struct rollout_counts *n);
JsonObject *drift_record_to_json(const struct drift_record *r);
JsonObject *plan_item_to_json(const PlanItem *i);

/* Takes @o; compact text. */
char *json_object_text(JsonObject *o);
/* "2026-11-22T16:32:45.123456Z", or null for 0. */
void json_object_set_time(JsonObject *o, const char *member, gint64 time_us);
/* NULL becomes null. */
void json_object_set_text(JsonObject *o, const char *member, const char *text);
/* "error": its code and text; null if there is none. */
void json_object_set_error(JsonObject *o, MoultError code, const char *text);
void json_object_set_hex(JsonObject *o, const char *member, const guint8 *data, gsize len);
