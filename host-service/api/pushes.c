/* host-service/api/pushes.c - /v1/pushes: releases into VMs. */
#include "common/error.h"
#include "host-service/api/call.h"
#include "host-service/jobs/push_operation.h"

/* How long an upgrade that is active waits for the host's confirmation before the guest takes it back by
 * itself. */
#define CONFIRM_TIMEOUT_MS 60000

struct push_options api_push_options(JsonObject *body)
{
        struct push_options o = {0};

        o.dry_run = json_object_get_boolean_member_with_default(body, "dry_run", FALSE);
        o.allow_drift = json_object_get_boolean_member_with_default(body, "allow_drift", FALSE);
        o.strict_window = json_object_get_boolean_member_with_default(body, "strict_window", FALSE);
        o.restart_stale = json_object_get_boolean_member_with_default(body, "restart_stale", FALSE);
        o.snapshot = json_object_get_boolean_member_with_default(body, "snapshot", FALSE);
        o.instant = json_object_get_boolean_member_with_default(body, "instant", FALSE);
        push_merge_parse(json_object_get_string_member_with_default(body, "merge", "auto"), &o.merge);
        push_transport_parse(json_object_get_string_member_with_default(body, "transport", "auto"),
                             &o.transport);
        if (g_str_equal(json_object_get_string_member_with_default(body, "sync", "fast"), "gentle"))
                o.sync_mode = MOULT__SYNC_MODE__SYNC_GENTLE;
        o.confirm_timeout_ms = (guint32)json_object_get_int_member_with_default(body, "confirm_timeout_ms",
                                                                                CONFIRM_TIMEOUT_MS);
        o.workers = (guint32)json_object_get_int_member_with_default(body, "workers", 0);
        return o;
}

gboolean api_pushes_add(struct api_call *call, GError **error)
{
        Api *api = call->api;
        const struct push_options options = api_push_options(call->body);
        JsonArray *a = json_object_get_array_member(call->body, "vms");
        guint n = json_array_get_length(a);
        g_autofree const char **vms = g_new0(const char *, n + 1);
        g_autoptr(ReleaseRecord) release = NULL;
        g_autofree char *id = NULL;

        for (guint i = 0; i < n; i++)
                vms[i] = json_array_get_string_element(a, i);
        if (!api_check_room(api, error))
                return FALSE;
        release = catalogue_release_resolve(api->catalogue,
                                            json_object_get_string_member(call->body, "release"), error);
        if (!release)
                return FALSE;
        id = push_operation_add(api->env, api->catalogue, api->jobs, release, vms, &options, error);
        return id && call_answer_operation(call, SOUP_STATUS_ACCEPTED, id, error);
}
