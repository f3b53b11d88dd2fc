/* host-service/api/status.c - how the host service is, at a glance. */
#include "host-service/api/call.h"
#include "host-service/catalogue/event_log.h"
#include "shm/keys.h"

static JsonObject *trust_json(const char *dir)
{
        JsonObject *o = json_object_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(TrustStore) trust = trust_store_load(dir, &error);

        json_object_set_string_member(o, "directory", dir);
        json_object_set_int_member(o, "keys", trust ? trust_store_count(trust) : 0);
        json_object_set_text(o, "problem", error ? error->message : NULL);
        return o;
}

gboolean api_status_get(struct api_call *call, GError **error)
{
        Api *api = call->api;
        g_autoptr(GPtrArray) vms = catalogue_vm_list(api->catalogue, error);
        g_autoptr(GPtrArray) releases = vms ? catalogue_release_list(api->catalogue, NULL, error) : NULL;
        g_autoptr(GPtrArray) open = releases ? catalogue_operation_unfinished(api->catalogue, error) : NULL;
        guint connected = 0;
        JsonObject *o;

        if (!open)
                return FALSE;
        for (guint i = 0; i < vms->len; i++) {
                struct guest_status s = {0};

                api->guests->ops->status(api->guests->self, ((VmRecord *)g_ptr_array_index(vms, i))->name,
                                         &s);
                connected += s.connected ? 1 : 0;
        }
        o = json_object_new();
        json_object_set_string_member(o, "service", "moultd");
        json_object_set_string_member(o, "version", MOULT_VERSION);
        json_object_set_string_member(o, "api", "v1");
        json_object_set_time(o, "time", host_wall_us(api->env));
        json_object_set_int_member(o, "uptime_s",
                                   (host_monotonic_us(api->env) - api->started_us) / G_USEC_PER_SEC);
        json_object_set_int_member(o, "catalogue_schema", catalogue_schema_version(api->catalogue));
        json_object_set_int_member(o, "vms", vms->len);
        json_object_set_int_member(o, "vms_connected", connected);
        json_object_set_int_member(o, "releases", releases->len);
        json_object_set_int_member(o, "operations_unfinished", open->len);
        json_object_set_int_member(o, "event_last", catalogue_event_last(api->catalogue));
        json_object_set_int_member(o, "event_forgotten", catalogue_event_forgotten(api->catalogue));
        json_object_set_object_member(o, "trust", trust_json(api->config.trust_dir));
        json_object_set_text(o, "tls_listen", api->config.tls_listen);
        json_object_set_hex(o, "tls_fingerprint", api->config.tls_fingerprint, DIGEST_SIZE);
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}
