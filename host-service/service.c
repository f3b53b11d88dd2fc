/* host-service/service.c - the parts of the host service, in the order in which they need each other. */
#include "host-service/service.h"

#include "host-service/api/api.h"
#include "host-service/housekeeping.h"
#include "host-service/push/push_manager.h"
#include "host-service/rollout/rollout_manager.h"
#include "host-service/store/share.h"
#include "host-service/store/store.h"

struct Service {
        Catalogue *catalogue;
        Housekeeping *housekeeping;
        Jobs *jobs;
        Releases *releases;
        TlsIdentity *identity;
        const char *endpoints[2];
        PushManager *pushes;
        RolloutManager *rollouts;
        Metrics *metrics;
        Store *store;
        AuditLog *audit;
        Share *share;
        Api *api;
};

static gboolean start(Service *s, const struct host_env *env, const struct host_config *config,
                      GError **error)
{
        struct push_manager_config push_config = {0};
        struct api_config api_config = {.socket = config->socket,
                                        .socket_group = config->socket_group,
                                        .trust_dir = config->trust_dir,
                                        .state_dir = config->state_dir,
                                        .immutable_packs = config->immutable_packs,
                                        .tls_listen = config->tls_listen,
                                        .listen = config->api_listen};

        s->catalogue = catalogue_open(env, error);
        if (!s->catalogue)
                return FALSE;
        s->metrics = api_config.metrics = metrics_new(env, s->catalogue);
        s->jobs = jobs_new(env, s->catalogue);
        s->releases = releases_new(env, s->catalogue, s->jobs, config->trust_dir, error);
        if (!s->releases)
                return FALSE;
        s->identity = tls_identity_load(config->state_dir, "moultd", error);
        if (!s->identity)
                return FALSE;
        api_config.tls_fingerprint = tls_identity_fingerprint(s->identity);
        s->endpoints[0] = config->tls_listen;
        push_config.identity = s->identity;
        push_config.tls_endpoints = config->tls_listen ? s->endpoints : NULL;
        push_config.concurrent = config->concurrent_pushes;
        push_config.concurrent_bytes = config->concurrent_bytes;
        s->pushes = push_manager_new(env, s->catalogue, s->jobs, &push_config, error);
        if (!s->pushes)
                return FALSE;
        s->rollouts = rollout_manager_new(env, s->catalogue, s->jobs, s->pushes);
        s->store = store_new(env, s->catalogue, s->jobs, s->releases, push_manager_guest_view(s->pushes),
                             config->trust_dir);
        if (config->audit_log) {
                s->audit = api_config.audit = audit_log_new(config->audit_log, error);
                if (!s->audit)
                        return FALSE;
        }
        s->share = share_new(env, s->catalogue, s->jobs, s->releases, env->objects);
        /* The socket before the jobs: a second moultd ends here, before it touches a VM. */
        s->api = api_new(env, s->catalogue, s->jobs, s->releases, push_manager_guest_view(s->pushes),
                         &api_config, error);
        if (!s->api || !jobs_begin(s->jobs, error))
                return FALSE;
        push_manager_begin(s->pushes);
        s->housekeeping = housekeeping_new(env, s->catalogue);
        return TRUE;
}

Service *service_new(const struct host_env *env, const struct host_config *config, GError **error)
{
        g_autoptr(Service) s = g_new0(Service, 1);

        return start(s, env, config, error) ? g_steal_pointer(&s) : NULL;
}

void service_free(Service *s)
{
        if (!s)
                return;
        /* Answers that are still to come find the API gone; then those who would give them end. */
        g_clear_pointer(&s->api, api_free);
        g_clear_pointer(&s->rollouts, rollout_manager_free);
        g_clear_pointer(&s->share, share_free);
        g_clear_pointer(&s->store, store_free);
        g_clear_pointer(&s->pushes, push_manager_free);
        g_clear_pointer(&s->releases, releases_free);
        g_clear_pointer(&s->jobs, jobs_free);
        g_clear_pointer(&s->housekeeping, housekeeping_free);
        g_clear_pointer(&s->audit, audit_log_free);
        g_clear_pointer(&s->metrics, metrics_free);
        g_clear_pointer(&s->identity, tls_identity_free);
        g_clear_pointer(&s->catalogue, catalogue_close);
        g_free(s);
}
