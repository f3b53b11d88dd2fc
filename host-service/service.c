/* host-service/service.c - the parts of the host service, in the order in which they need each other. */
#include "host-service/service.h"

#include "host-service/api/api.h"
#include "host-service/housekeeping.h"
#include "host-service/push/push_manager.h"
#include "host-service/rollout/rollout_manager.h"
#include "host-service/snapshot/export.h"
#include "host-service/snapshot/mount.h"
#include "host-service/snapshot/prune.h"
#include "host-service/snapshot/rollback.h"
#include "host-service/snapshot/schedules.h"
#include "host-service/snapshot/snapshot_manager.h"
#include "host-service/snapshot/upload.h"
#include "host-service/snapshot/verify.h"
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
        VmTurns *turns;
        SnapshotManager *snapshots;
        SnapshotRollbacks *rollbacks;
        SnapshotUploads *uploads;
        SnapshotExports *exports;
        SnapshotVerifies *verifies;
        SnapshotMounts *mounts;
        SnapshotPrunes *prunes;
        SnapshotSchedules *schedules;
        Metrics *metrics;
        Store *store;
        AuditLog *audit;
        Share *share;
        Api *api;
};

/* A rollback and a push of the same VM: whoever is asked for while the other is under way does not begin. */
static gboolean is_rolled_back(const char *vm, gpointer user)
{
        const Service *s = user;

        return snapshot_rollbacks_has(s->rollbacks, vm);
}

static void on_rolled_back(gpointer user)
{
        push_manager_go_on(((Service *)user)->pushes);
}

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

        g_autoptr(GTimeZone) zone = g_time_zone_new_local();
        g_autofree char *mounts_dir = g_strconcat(config->socket, ".mounts", NULL);

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
        push_config.per_backing = config->concurrent_per_backing;
        push_config.concurrent_bytes = config->concurrent_bytes;
        s->pushes = push_manager_new(env, s->catalogue, s->jobs, &push_config, error);
        if (!s->pushes)
                return FALSE;
        s->rollouts = rollout_manager_new(env, s->catalogue, s->jobs, s->pushes);
        s->turns = vm_turns_new(env);
        s->snapshots = snapshot_manager_new(env, s->catalogue, s->jobs, push_manager_guest_view(s->pushes),
                                            s->turns);
        s->rollbacks = snapshot_rollbacks_new(env, s->catalogue, s->jobs, push_manager_guest_view(s->pushes),
                                              s->turns, snapshot_layer_refs(s->snapshots));
        snapshot_rollbacks_set_over(s->rollbacks, on_rolled_back, s);
        push_manager_set_vm_busy(s->pushes, is_rolled_back, s);
        s->exports = snapshot_exports_new(env, s->catalogue, s->jobs, env->objects,
                                          snapshot_layer_refs(s->snapshots));
        s->verifies = snapshot_verifies_new(env, s->catalogue, s->jobs, snapshot_layer_refs(s->snapshots));
        s->uploads = snapshot_uploads_new(env, s->catalogue, s->jobs, env->objects, s->snapshots,
                                          config->merge_after_upload);
        s->mounts = snapshot_mounts_new(env, s->catalogue, s->jobs, env->objects,
                                        snapshot_layer_refs(s->snapshots), mounts_dir, config->socket_group);
        api_config.mounts = s->mounts;
        s->prunes = snapshot_prunes_new(env, s->catalogue, s->jobs, s->snapshots, s->mounts);
        s->schedules = snapshot_schedules_new(env, s->catalogue, s->jobs, zone);
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
        if (!s->api || !snapshot_mounts_begin(s->mounts, error) || !jobs_begin(s->jobs, error))
                return FALSE;
        snapshot_prunes_begin(s->prunes);
        snapshot_schedules_begin(s->schedules);
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
        if (s->jobs)
                jobs_quiet(s->jobs);
        /* Answers that are still to come find the API gone; then those who would give them end. */
        g_clear_pointer(&s->api, api_free);
        g_clear_pointer(&s->schedules, snapshot_schedules_free);
        g_clear_pointer(&s->exports, snapshot_exports_free);
        g_clear_pointer(&s->mounts, snapshot_mounts_free);
        g_clear_pointer(&s->verifies, snapshot_verifies_free);
        g_clear_pointer(&s->prunes, snapshot_prunes_free);
        g_clear_pointer(&s->uploads, snapshot_uploads_free);
        if (s->rollbacks)
                push_manager_set_vm_busy(s->pushes, NULL, NULL);
        g_clear_pointer(&s->rollbacks, snapshot_rollbacks_free);
        g_clear_pointer(&s->rollouts, rollout_manager_free);
        g_clear_pointer(&s->share, share_free);
        g_clear_pointer(&s->store, store_free);
        /* From here on the loop does not turn: what they have asked of hypervisors is answered no more. */
        g_clear_pointer(&s->snapshots, snapshot_manager_free);
        g_clear_pointer(&s->turns, vm_turns_free);
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
