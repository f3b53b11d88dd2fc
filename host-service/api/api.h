/* host-service/api/api.h - HTTP/JSON on a Unix socket: the one door to the host service. docs/openapi.yaml.
 *
 * Theory of operation: a request passes three gates: frame (connections and body sizes are limited), state (a
 * route with this method exists), content (the route's tables of fields and the refusal functions: pure).
 * Then its act() runs on the loop; it answers at once, or later for what takes worker threads or guests. A
 * POST's change, and the answer kept for its Idempotency-Key, are one transaction.
 */
#pragma once

#include "host-service/audit_log.h"
#include "host-service/catalogue/catalogue.h"
#include "host-service/guest_view.h"
#include "host-service/jobs/jobs.h"
#include "host-service/metrics/metrics.h"
#include "host-service/release/releases.h"
#include "host-service/snapshot/mount.h"

typedef struct Api Api;

struct api_config {
        const SnapshotMounts *mounts;
        Metrics *metrics;         /* or NULL: nothing is counted */
        const char *listen;       /* "ADDR:PORT" or NULL: only the Unix socket */
        AuditLog *audit;          /* or NULL: nothing is written down */
        const char *socket;       /* path */
        const char *socket_group; /* or NULL */
        const char *trust_dir;
        const char *state_dir;
        gboolean immutable_packs;
        const char *tls_listen; /* or NULL; shown in the status */
        const guint8
                *tls_fingerprint; /* DIGEST_SIZE bytes: whom an agent that joins over the network meets */
};

/* Listens at once; requests are served from the loop. BUSY if another service answers at that socket. */
Api *api_new(const struct host_env *env, Catalogue *c, Jobs *jobs, Releases *releases,
             const struct guest_view *guests, const struct api_config *config, GError **error);
/* Ends every connection and removes the socket. */
void api_free(Api *api);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Api, api_free)
