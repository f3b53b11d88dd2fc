/* host-service/metrics/metrics.h - what the host service counts for Prometheus: GET /metrics.
 * docs/operation.md lists the names.
 *
 * Theory of operation: nobody has to tell it of pushes. It follows the catalogue's event log, where each end
 * of a push is written exactly once; what is a state rather than a count is looked up when it is asked for.
 * All labels are of bounded sets: states, routes, status codes, event ids; never VMs, releases or addresses.
 */
#pragma once

#include "host-service/catalogue/catalogue.h"

typedef struct Metrics Metrics;

/* What the API knows and this does not; filled by api/metrics.c. */
struct metrics_view {
        guint vms_serial, vms_tls, vms_qmp; /* sessions that stand, by transport; QMP sockets that answer */
        guint connections, streams;         /* of the API */
        guint trusted_keys;
};

Metrics *metrics_new(const struct host_env *env, Catalogue *c);
void metrics_free(Metrics *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Metrics, metrics_free)

/* A request was answered. @route: its pattern; or NULL: none of ours. @took_us < 0: not measured (a stream).
 */
void metrics_request(Metrics *m, const char *method, const char *route, guint status, gint64 took_us);
/* The page. */
char *metrics_text(Metrics *m, const struct metrics_view *view, GError **error);
