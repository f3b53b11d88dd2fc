/* host-service/hypervisor/libvirt_monitor.h - the monitor of a domain, through the libvirt that holds it.
 *
 * libvirt hands QMP commands through (virDomainQemuMonitorCommand) and QEMU's events back. The connection is
 * host_virt_ops' affair: a command waits for it, and the watch makes it again. */
#pragma once

#include "host-service/hypervisor/monitor.h"

Monitor *libvirt_monitor_new(const struct host_env *env, const char *uri, const char *domain,
                             const struct monitor_events *events, gpointer user);
