/* host-service/snapshot/schedules.c - which schedules are due, and what has become of what was begun for
 * them.
 *
 * All is in rows: a look at them finds what to do, whoever has looked before. That a snapshot was begun, and
 * when the next one is due, is one transaction, so a moultd that dies has either begun it or has not. One
 * looks when the first of them is due, when anything has happened, and each minute, since a clock may be set.
 */
#include "host-service/snapshot/schedules.h"

#include <json-glib/json-glib.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/catalogue/json.h"
#include "host-service/catalogue/schedules.h"
#include "host-service/snapshot/prune_plan.h"
#include "host-service/snapshot/schedule_time.h"

#define LOOK_AT_LEAST_MS 60000
#define EVENTS_MS        100

struct SnapshotSchedules {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        GTimeZone *zone;
        GSource *look;    /* when the next one is due */
        GSource *noticed; /* something has happened */
};

static JsonObject *options_of(const ScheduleRecord *r)
{
        g_autoptr(JsonNode) node = json_from_string(r->options, NULL);

        return json_object_ref(json_node_get_object(node));
}

/* ---- the end of one ---- */

/* It is done when the old ones are gone, too. */
static gboolean begin_prune(SnapshotSchedules *s, ScheduleRecord *r, GError **error)
{
        JsonObject *o = options_of(r);
        g_autofree char *request = NULL, *id = NULL;

        json_object_set_string_member(o, "vm", r->vm);
        request = json_object_text(o);
        if (!catalogue_begin(s->catalogue, error))
                return FALSE;
        id = jobs_add(s->jobs, "snapshot-prune", request, error);
        g_free(r->operation);
        r->operation = g_steal_pointer(&id);
        return catalogue_end(s->catalogue,
                             r->operation && catalogue_schedule_update(s->catalogue, r, NULL, error), error);
}

static gboolean note_end(SnapshotSchedules *s, ScheduleRecord *r, const OperationRecord *op, GError **error)
{
        r->last_ok = op && op->state == OPERATION_SUCCEEDED;
        r->last_us = host_wall_us(s->env);
        g_clear_pointer(&r->last_text, g_free);
        if (!r->last_ok)
                r->last_text = g_strdup_printf("%s: %s", op ? op->kind : "its job",
                                               !op        ? "is not on record any more"
                                               : op->text ? op->text
                                                          : operation_state_name(op->state));
        r->failures = r->last_ok ? 0 : r->failures + 1;
        g_clear_pointer(&r->operation, g_free);
        if (!catalogue_schedule_update(s->catalogue, r, r->last_ok ? "succeeded" : "failed", error))
                return FALSE;
        if (!r->last_ok)
                event_log(EVENT_WARNING, "snapshot-schedule-failed", r->last_text, "vm", r->vm, NULL);
        return TRUE;
}

static gboolean has_rule(const ScheduleRecord *r)
{
        g_autoptr(JsonObject) o = options_of(r);
        struct prune_policy p = prune_policy_from_json(o);

        return !prune_policy_is_empty(&p);
}

/* TRUE: it goes on, or nothing could be found out. */
static gboolean is_under_way(SnapshotSchedules *s, ScheduleRecord *r, GError **error)
{
        g_autoptr(GError) none = NULL;
        g_autoptr(OperationRecord) op = catalogue_operation_get(s->catalogue, r->operation, &none);

        if (!op && !g_error_matches(none, MOULT_ERROR, MOULT_ERROR_NOT_FOUND)) {
                g_propagate_error(error, g_steal_pointer(&none));
                return TRUE;
        }
        if (op && !operation_state_is_final(op->state))
                return TRUE;
        if (op && op->state == OPERATION_SUCCEEDED && g_str_equal(op->kind, "snapshot-create") && has_rule(r))
                return begin_prune(s, r, error) || (error && *error);
        return !note_end(s, r, op, error);
}

/* ---- the beginning ---- */

static gboolean begin(SnapshotSchedules *s, ScheduleRecord *r, gint64 now, GError **error)
{
        g_autoptr(JsonObject) options = options_of(r);
        JsonObject *o = json_object_new();
        g_autofree char *request = NULL;
        gint64 late_s = (now - r->next_us) / G_USEC_PER_SEC;
        g_autofree char *late = g_strdup_printf("%" G_GINT64_FORMAT, late_s);

        json_object_set_string_member(o, "vm", r->vm);
        json_object_set_boolean_member(o, "quiesce",
                                       json_object_get_boolean_member_with_default(options, "quiesce", TRUE));
        json_object_set_boolean_member(o, "upload",
                                       json_object_get_boolean_member_with_default(options, "upload", TRUE));
        request = json_object_text(o);
        r->next_us = schedule_next(r, now, s->zone);
        if (!catalogue_begin(s->catalogue, error))
                return FALSE;
        r->operation = jobs_add(s->jobs, "snapshot-create", request, error);
        fault_point("schedule-begin");
        if (!catalogue_end(s->catalogue,
                           r->operation && catalogue_schedule_update(s->catalogue, r, NULL, error), error))
                return FALSE;
        fault_point("schedule-begun");
        event_log(EVENT_INFO, "snapshot-schedule-begun", "", "vm", r->vm, "operation", r->operation,
                  "late-seconds", late, NULL);
        return TRUE;
}

/* ---- looking ---- */

static gboolean on_look(gpointer user);

/* The first that nothing is under way for; of those that are late whoever ends makes room. */
static void look_again(SnapshotSchedules *s, gint64 next_us, gint64 now)
{
        gint64 wait_ms = MAX(0, next_us - now) / 1000 + 1;

        host_timer_clear(&s->look);
        s->look = host_timer_add(s->env, (guint)MIN(wait_ms, LOOK_AT_LEAST_MS), on_look, s);
}

static gboolean look(SnapshotSchedules *s, GError **error)
{
        g_autoptr(GPtrArray) all = catalogue_schedule_list(s->catalogue, error);
        gint64 now = host_wall_us(s->env), next_us = G_MAXINT64;
        guint under_way = 0;

        for (guint i = 0; all && i < all->len; i++) {
                ScheduleRecord *r = all->pdata[i];

                under_way += r->operation && is_under_way(s, r, error);
                if (*error)
                        return FALSE;
        }
        for (guint i = 0; all && i < all->len; i++) {
                ScheduleRecord *r = all->pdata[i];
                gboolean due = !r->operation && r->next_us <= now;

                if (due && under_way < SCHEDULES_AT_ONCE) {
                        if (!begin(s, r, now, error))
                                return FALSE;
                        under_way++;
                } else if (!due && !r->operation) {
                        next_us = MIN(next_us, r->next_us);
                }
        }
        if (all)
                look_again(s, next_us, now);
        return all != NULL;
}

static void look_now(SnapshotSchedules *s)
{
        g_autoptr(GError) error = NULL;

        host_timer_clear(&s->noticed);
        if (look(s, &error))
                return;
        event_log(EVENT_WARNING, "snapshot-schedule-stuck", error->message, NULL);
        look_again(s, G_MAXINT64, 0);
}

static gboolean on_look(gpointer user)
{
        look_now(user);
        return G_SOURCE_REMOVE;
}

static void on_events(gint64 last_seq, gpointer user)
{
        SnapshotSchedules *s = user;

        if (!s->noticed)
                s->noticed = host_timer_add(s->env, EVENTS_MS, on_look, s);
}

/* ---- life ---- */

SnapshotSchedules *snapshot_schedules_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                          GTimeZone *zone)
{
        SnapshotSchedules *s = g_new0(SnapshotSchedules, 1);

        s->env = env;
        s->catalogue = c;
        s->jobs = jobs;
        s->zone = g_time_zone_ref(zone);
        return s;
}

void snapshot_schedules_begin(SnapshotSchedules *s)
{
        catalogue_listen(s->catalogue, on_events, s);
        on_events(0, s);
}

void snapshot_schedules_free(SnapshotSchedules *s)
{
        if (!s)
                return;
        catalogue_unlisten(s->catalogue, on_events, s);
        host_timer_clear(&s->look);
        host_timer_clear(&s->noticed);
        g_time_zone_unref(s->zone);
        g_free(s);
}
