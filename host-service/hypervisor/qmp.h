/* host-service/hypervisor/qmp.h - one QMP monitor connection: commands out, answers and events in.
 *
 * The first command connects; commands given meanwhile wait for the greeting and the capabilities. A broken
 * connection fails what was under way, and the next command connects again. Nothing blocks. */
#pragma once

#include "host-service/env.h"
#include "host-service/hypervisor/qmp_message.h"

typedef struct QmpClient QmpClient;

/* Exactly once per command, from the main loop. @result only without @error, valid during the call. Errors:
 * what QEMU answered (MOULT_ERROR_REFUSED; NOT_FOUND for its DeviceNotFound, UNSUPPORTED for
 * CommandNotFound), TIMEOUT, IO (the connection broke), NOT_FOUND with qmp_error_is_gone() (nobody listens:
 * the VM is off). */
typedef void (*qmp_reply_func)(JsonNode *result, const GError *error, gpointer user);

struct qmp_events {
        void (*event)(const char *name, JsonObject *data, gpointer user); /* @data may be NULL */
        void (*lost)(const GError *why, gpointer user);
};

QmpClient *qmp_client_new(const struct host_env *env, const char *socket_path,
                          const struct qmp_events *events, gpointer user);
/* Callbacks under way do not run any more. */
void qmp_client_free(QmpClient *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpClient, qmp_client_free)

/* Takes over @arguments (may be NULL). */
void qmp_client_execute(QmpClient *c, const char *command, JsonObject *arguments, guint timeout_ms,
                        qmp_reply_func done, gpointer user);
/* Lets the monitor go, for others; fails what is under way with CANCELLED. No `lost`. */
void qmp_client_disconnect(QmpClient *c);
gboolean qmp_client_is_connected(const QmpClient *c);
/* True if @error says that nobody listens on the monitor socket. */
gboolean qmp_error_is_gone(const GError *error);
