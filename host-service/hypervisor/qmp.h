/* host-service/hypervisor/qmp.h - the monitor over a QMP socket of QEMU's own.
 *
 * The first command connects; commands given meanwhile wait for the greeting and the capabilities. A broken
 * connection fails what was under way, and the next command connects again. Nothing blocks. */
#pragma once

#include "host-service/hypervisor/monitor.h"

Monitor *qmp_client_new(const struct host_env *env, const char *socket_path,
                        const struct monitor_events *events, gpointer user);
