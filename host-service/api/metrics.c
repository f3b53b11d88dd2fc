/* host-service/api/metrics.c - GET /metrics: the page that Prometheus asks for. */
#include "host-service/metrics/metrics.h"

#include "common/error.h"
#include "host-service/api/call.h"
#include "host-service/api/connections.h"
#include "host-service/api/event_stream.h"
#include "host-service/metrics/exposition.h"
#include "shm/keys.h"

static gboolean look_around(Api *api, struct metrics_view *ret, GError **error)
{
        g_autoptr(GPtrArray) vms = catalogue_vm_list(api->catalogue, error);
        g_autoptr(TrustStore) trust = trust_store_load(api->config.trust_dir, NULL);

        if (!vms)
                return FALSE;
        for (guint i = 0; i < vms->len; i++) {
                struct guest_status s = {0};

                api->guests->ops->status(api->guests->self, ((VmRecord *)vms->pdata[i])->name, &s);
                ret->vms_tls += g_strcmp0(s.transport, "tls") == 0;
                ret->vms_serial += g_strcmp0(s.transport, "virtio-serial") == 0;
                ret->vms_qmp += s.qmp ? 1 : 0;
        }
        ret->connections = api_peers_count(api_connections_peers(api->connections));
        ret->streams = api_streams_count(api->streams);
        ret->trusted_keys = trust ? trust_store_count(trust) : 0;
        return TRUE;
}

gboolean api_metrics_get(struct api_call *call, GError **error)
{
        struct metrics_view view = {0};
        char *text;

        if (!call->api->config.metrics) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED, "nothing is counted here");
                return FALSE;
        }
        if (!look_around(call->api, &view, error))
                return FALSE;
        text = metrics_text(call->api->config.metrics, &view, error);
        if (!text)
                return FALSE;
        call_answer_text(call, EXPOSITION_TYPE, text);
        return TRUE;
}
