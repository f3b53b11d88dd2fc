/* host-service/api/drift.c - /v1/vms/{name}/drift: what the last comparison with the golden image has found.
 *
 * The comparison is made by `moult drift`, which has the golden image. It takes a number here before it
 * begins and gives it back with its result: so a push that ends in between makes the result outdated, whoever
 * is faster. */
#include "host-service/api/call.h"

JsonObject *api_drift_json(Api *api, const struct drift_record *r)
{
        JsonObject *o = drift_record_to_json(r);

        if (r->checked_us > 0)
                json_object_set_int_member(o, "age_s",
                                           MAX(0, host_wall_us(api->env) - r->checked_us) / G_USEC_PER_SEC);
        else
                json_object_set_null_member(o, "age_s");
        return o;
}

gboolean api_vms_drift_get(struct api_call *call, GError **error)
{
        struct drift_record r;
        gint64 changes;
        JsonObject *o;

        if (!catalogue_drift_get(call->api->catalogue, call->params[0], &r, &changes, error))
                return FALSE;
        o = json_object_new();
        json_object_set_object_member(o, "drift", api_drift_json(call->api, &r));
        json_object_set_int_member(o, "as_of", changes);
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}

gboolean api_vms_drift_set(struct api_call *call, GError **error)
{
        return catalogue_drift_set(call->api->catalogue, call->params[0],
                                   json_object_get_int_member(call->body, "as_of"),
                                   json_object_get_int_member(call->body, "files"), error) &&
               api_vms_drift_get(call, error);
}
