/* host-service/hypervisor/hypervisor.h - what moult asks of the program that runs a VM: an operations table.
 *
 * Theory of operation: a pack reaches a guest through shared memory by being hot-plugged as a read-only
 * window and taken off again. Both take the guest's help and so may take long or fail; everything here is
 * asynchronous and ends in a callback from the main loop. A window is an advantage, never a
 * need: whoever asks for one must be able to go on without it.
 *
 * Two callers may overlap (a push ends while the next one begins): operations of one hypervisor are queued
 * and done one after the other. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/env.h"

typedef struct Hypervisor Hypervisor;

typedef enum {
        HYPERVISOR_STOPPED, /* process is there, the VM's processors stand */
        HYPERVISOR_RUNNING,
        HYPERVISOR_GONE, /* nobody listens: the VM is off */
} HypervisorStatus;

typedef enum {
        HYPERVISOR_EVENT_SHUTDOWN,    /* the VM ends; windows go with it */
        HYPERVISOR_EVENT_RESET,       /* the VM boots again; windows stay */
        HYPERVISOR_EVENT_WINDOW_GONE, /* a window of ours was taken off, by us or by somebody else */
        HYPERVISOR_EVENT_AWAY, /* the VM has left this hypervisor, @detail says where to; NULL: it is back */
        HYPERVISOR_EVENT_LOST, /* the monitor connection broke; it is made again when needed */
} HypervisorEvent;

/* As what a pack is shown to the guest. */
typedef enum {
        HYPERVISOR_WINDOW_IVSHMEM, /* a PCI BAR; taken off after use */
        HYPERVISOR_WINDOW_PMEM, /* persistent memory, which no QEMU takes off again: it stays until the VM is
                                   powered off, so only a root port that is meant for it is used */
        HYPERVISOR_WINDOW_PMEM_FORCED, /* in any free root port */
} HypervisorWindow;

/* @detail is for people; may be NULL. AWAY at any time, the others only while an operation runs or a window
 * is plugged. */
typedef void (*hypervisor_event_func)(HypervisorEvent event, const char *detail, gpointer user);

/* Runs exactly once per call, from the main loop, unless the Hypervisor is freed before. @error NULL:
 * success. */
typedef void (*hypervisor_done_func)(const GError *error, gpointer user);
typedef void (*hypervisor_status_func)(HypervisorStatus status, const GError *error, gpointer user);
/* @files: NULL-terminated, valid during the call; NULL with @error. */
typedef void (*hypervisor_files_func)(const char *const *files, const GError *error, gpointer user);

/* @result: QEMU's answer, valid during the call; NULL with @error. */
typedef void (*hypervisor_reply_func)(JsonNode *result, const GError *error, gpointer user);

struct hypervisor_ops {
        const char *name; /* "qmp", "libvirt" */
        void (*query_status)(Hypervisor *h, hypervisor_status_func done, gpointer user);
        /* On which backing files the VM's disks stand (backing_files.h), by the names that the hypervisor has
         * for them. An error if it is off, does not answer, or cannot tell. */
        void (*query_backing)(Hypervisor *h, hypervisor_files_func done, gpointer user);
        /* One command of QEMU's block layer, or one that stops and continues its processors, for who knows
         * what he does with it (host-service/snapshot). @arguments (may be NULL) are taken over. Errors:
         * REFUSED, NOT_FOUND, UNSUPPORTED: QEMU said no, and nothing was done; TIMEOUT, IO: it may have been
         * done. */
        void (*command)(Hypervisor *h, const char *command, JsonObject *arguments, hypervisor_reply_func done,
                        gpointer user);
        /* A request to libvirt about the domain's disks (env.h). @arguments (may be NULL) are taken over.
         * Errors as there; UNSUPPORTED: the VM is no domain of libvirt's. */
        void (*disks)(Hypervisor *h, VirtDisks what, JsonObject *arguments, hypervisor_reply_func done,
                      gpointer user);
        /* Makes @size_bytes (a power of two) of the file @path visible to the guest as a read-only window.
         * The same file already plugged as the same kind: success at once. Another window that nobody needs
         * any more is taken off if it can be. UNSUPPORTED: the VM has no place for it, or this hypervisor
         * cannot; TIMEOUT: it does not answer, or is gone; IO. */
        void (*plug_pack)(Hypervisor *h, const char *path, guint64 size_bytes, HypervisorWindow window,
                          hypervisor_done_func done, gpointer user);
        /* Takes off every window of ours, also those that an earlier moultd left. Nothing plugged, or the VM
         * is off: success. TIMEOUT: the guest does not let go; the window stays and is tried again by the
         * next call. UNSUPPORTED: a window stays because this hypervisor cannot take it off. */
        void (*unplug_pack)(Hypervisor *h, hypervisor_done_func done, gpointer user);
        gboolean (*is_plugged)(const Hypervisor *h); /* as far as this process knows */
        /* After an unplug that could not: whether the file @path is among what stays. */
        gboolean (*keeps)(const Hypervisor *h, const char *path);
        void (*free)(Hypervisor *h); /* pending callbacks do not run */
};

/* Implementations embed this as their first member. */
struct Hypervisor {
        const struct hypervisor_ops *ops;
        hypervisor_event_func on_event;
        gpointer user;
};

void hypervisor_set_events(Hypervisor *h, hypervisor_event_func on_event, gpointer user);
void hypervisor_query_status(Hypervisor *h, hypervisor_status_func done, gpointer user);
void hypervisor_command(Hypervisor *h, const char *command, JsonObject *arguments, hypervisor_reply_func done,
                        gpointer user);
void hypervisor_disks(Hypervisor *h, VirtDisks what, JsonObject *arguments, hypervisor_reply_func done,
                      gpointer user);
void hypervisor_query_backing(Hypervisor *h, hypervisor_files_func done, gpointer user);
void hypervisor_plug_pack(Hypervisor *h, const char *path, guint64 size_bytes, HypervisorWindow window,
                          hypervisor_done_func done, gpointer user);
void hypervisor_unplug_pack(Hypervisor *h, hypervisor_done_func done, gpointer user);
gboolean hypervisor_is_plugged(const Hypervisor *h);
gboolean hypervisor_keeps(const Hypervisor *h, const char *path);
void hypervisor_free(Hypervisor *h);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Hypervisor, hypervisor_free)

/* QEMU through a QMP monitor socket. The monitor serves one client at a time, so it is held only while an
 * operation runs or a window is plugged. Does not connect yet. */
Hypervisor *hypervisor_qmp_new(const struct host_env *env, const char *socket_path);
/* A domain (name or UUID) of the libvirt at @uri; @env must have libvirt. Windows are plugged with QEMU's own
 * commands handed through by libvirt (decision 0012), so the domain's log says "custom-monitor". */
Hypervisor *hypervisor_libvirt_new(const struct host_env *env, const char *uri, const char *domain);
