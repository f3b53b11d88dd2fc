/* host-service/hypervisor/monitor.h - the way to one QEMU's monitor: commands out, answers and events in.
 *
 * Two ways are there: a socket of QEMU's own (qmp.h), and libvirt, which holds that socket
 * (libvirt_monitor.h). What is said over them is the same, so everything above is written once
 * (qmp_backend.c). Nothing blocks. */
#pragma once

#include "host-service/env.h"
#include "host-service/hypervisor/qmp_message.h"

typedef struct Monitor Monitor;

/* Exactly once per command, from the main loop. @result only without @error, valid during the call. Errors:
 * what QEMU answered (MOULT_ERROR_REFUSED; NOT_FOUND for its DeviceNotFound, UNSUPPORTED for
 * CommandNotFound), TIMEOUT, IO (the connection broke), and monitor_error_is_gone() (the VM is off). */
typedef void (*monitor_reply_func)(JsonNode *result, const GError *error, gpointer user);

/* An event that is not QEMU's: "text" says why the VM cannot be met here any more; without, it can again. */
#define MONITOR_EVENT_AWAY "moult-away"

struct monitor_events {
        void (*event)(const char *name, JsonObject *data, gpointer user); /* @data may be NULL */
        void (*lost)(const GError *why,
                     gpointer user); /* the connection broke; the next command makes a new one */
};

struct monitor_ops {
        void (*execute)(Monitor *m, const char *command, JsonObject *arguments, guint timeout_ms,
                        monitor_reply_func done, gpointer user);
        /* NULL: the VM is no domain of libvirt's. */
        void (*disks)(Monitor *m, VirtDisks what, JsonObject *arguments, guint timeout_ms,
                      monitor_reply_func done, gpointer user);
        void (*release)(Monitor *m);
        void (*free)(Monitor *m);
};

/* Implementations embed this as their first member. */
struct Monitor {
        const struct monitor_ops *ops;
};

/* The first command connects; commands given meanwhile wait for that. Takes over @arguments (may be NULL). */
void monitor_execute(Monitor *m, const char *command, JsonObject *arguments, guint timeout_ms,
                     monitor_reply_func done, gpointer user);
/* The same for libvirt itself (env.h); UNSUPPORTED if it has nothing to do with the VM. */
void monitor_disks(Monitor *m, VirtDisks what, JsonObject *arguments, guint timeout_ms,
                   monitor_reply_func done, gpointer user);
/* Lets the monitor go, for others; fails what is under way with CANCELLED. No `lost`. */
void monitor_release(Monitor *m);
/* Callbacks under way do not run any more. */
void monitor_free(Monitor *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Monitor, monitor_free)

/* True if @error says that there is no QEMU to talk to: the VM is off. */
gboolean monitor_error_is_gone(const GError *error);

/* For implementations. */
GError *monitor_error_gone(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* QEMU's refusal @m of @command. */
GError *monitor_error_refused(const char *command, const QmpMessage *m);
