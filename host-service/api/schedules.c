/* host-service/api/schedules.c - /v1/snapshots/schedules: snapshots that are taken by themselves. */
#include "common/error.h"
#include "host-service/api/call.h"
#include "host-service/catalogue/schedules.h"
#include "host-service/snapshot/schedule_time.h"

/* A rule of 0 is none. */
static JsonObject *options_of(JsonObject *body)
{
        static const char *const flags[] = {"quiesce", "upload"};
        static const char *const rules[] = {"keep_last", "keep_hourly", "keep_daily", "keep_weekly",
                                            "keep_monthly"};
        JsonObject *o = json_object_new();

        for (guint i = 0; i < G_N_ELEMENTS(flags); i++)
                json_object_set_boolean_member(
                        o, flags[i], json_object_get_boolean_member_with_default(body, flags[i], TRUE));
        for (guint i = 0; i < G_N_ELEMENTS(rules); i++) {
                gint64 n = json_object_get_int_member_with_default(body, rules[i], 0);

                if (n > 0)
                        json_object_set_int_member(o, rules[i], n);
        }
        return o;
}

static void answer(struct api_call *call, const ScheduleRecord *r)
{
        JsonObject *o = json_object_new();

        json_object_set_object_member(o, "schedule", schedule_record_to_json(r));
        call_answer(call, SOUP_STATUS_OK, o);
}

gboolean api_schedules_set(struct api_call *call, GError **error)
{
        const char *at = json_object_get_string_member_with_default(call->body, "at", NULL);
        g_autoptr(GTimeZone) zone = g_time_zone_new_local();
        g_autoptr(ScheduleRecord) r = g_new0(ScheduleRecord, 1), kept = NULL;

        r->vm = g_strdup(json_object_get_string_member(call->body, "vm"));
        r->every_us = json_object_get_int_member(call->body, "every_s") * G_USEC_PER_SEC;
        r->at_minute = -1;
        if (at)
                schedule_parse_at(at, &r->at_minute);
        r->options = json_object_text(options_of(call->body));
        r->since_us = host_wall_us(call->api->env);
        r->next_us = schedule_next(r, r->since_us, zone);
        if (!catalogue_schedule_set(call->api->catalogue, r, error))
                return FALSE;
        kept = catalogue_schedule_get(call->api->catalogue, r->vm, error);
        if (kept)
                answer(call, kept);
        return kept != NULL;
}

char *api_schedules_refusal(JsonObject *body)
{
        const char *at = json_object_get_string_member_with_default(body, "at", NULL);
        gint minute = -1;

        if (at && !schedule_parse_at(at, &minute))
                return g_strdup("\"at\" is no time of day: \"03:00\"");
        return g_strdup(
                schedule_refusal(json_object_get_int_member(body, "every_s") * G_USEC_PER_SEC, minute));
}

gboolean api_schedules_list(struct api_call *call, GError **error)
{
        g_autoptr(GPtrArray) all = catalogue_schedule_list(call->api->catalogue, error);
        JsonObject *o;
        JsonArray *a;

        if (!all)
                return FALSE;
        o = json_object_new();
        a = json_array_new();
        for (guint i = 0; i < all->len; i++)
                json_array_add_object_element(a, schedule_record_to_json(all->pdata[i]));
        json_object_set_array_member(o, "schedules", a);
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}

gboolean api_schedules_remove(struct api_call *call, GError **error)
{
        if (!catalogue_schedule_remove(call->api->catalogue, call->params[0], error))
                return FALSE;
        call_answer(call, SOUP_STATUS_OK, json_object_new());
        return TRUE;
}
