/* host-service/env_real_virt_private.h - what the files of the real libvirt share; for them only.
 *
 * env_real_virt.c: connections and calls. env_real_virt_domain.c: what is asked of a domain.
 * env_real_virt_events.c: what libvirt tells by itself. env_real_virt_channel.c: the host's end of a virtio
 * port. */
#pragma once

#include <libvirt/libvirt.h>

#include "host-service/env_real_private.h"

typedef struct VirtHost VirtHost;
typedef enum { HOST_CLOSED, HOST_OPENING, HOST_OPEN } HostState;

/* libvirt's numbers of what we have asked it to tell; -1: it was not asked. */
struct virt_event_ids {
        int lifecycle, monitor, jobs;
};

struct VirtHost {
        gint refs; /* the table of hosts, each call, each libvirt callback */
        struct env_real *real;
        GMainContext *context;
        char *uri;
        HostState state;
        virConnectPtr conn; /* OPEN only */
        struct virt_event_ids ids;
        GThreadPool *pool;
        GPtrArray *domains; /* of VirtDomain */
        GQueue waiting;     /* of Call */
        GSource *retry;
        guint retry_ms;
        gboolean complained; /* once per outage */
        gboolean ending;     /* its last domain has gone */
        GMutex jobs_lock;    /* of jobs_seen */
        GCond jobs_changed;
        guint jobs_seen; /* what was told of block jobs: how many times */
};

struct VirtDomain {
        VirtHost *host;
        char *name;
        virt_event_func event;
        gpointer user;
        GPtrArray *calls; /* of Call: not ended */
};

/* From any thread. */
VirtHost *virt_host_ref(VirtHost *h);
void virt_host_unref(gpointer h);

/* Main thread: every domain of @h hears it. */
void virt_tell_all(VirtHost *h, VirtEvent event, const char *detail);
/* Both block. FALSE: no events of libvirt's; QEMU's are taken if they are to be had. */
gboolean virt_events_begin(VirtHost *h, virConnectPtr conn, struct virt_event_ids *ret);
void virt_events_end(virConnectPtr conn, const struct virt_event_ids *ids);
/* How many times something was told of a block job; from any thread. */
guint virt_jobs_seen(VirtHost *h);
/* Until that is another number, or it is @until (of g_get_monotonic_time()). Not in the main thread. */
void virt_jobs_wait(VirtHost *h, guint seen, gint64 until);

/* What libvirt said last in this thread. NOT_FOUND: no such domain, or it does not run. */
GError *virt_error(const char *doing);
/* By UUID or name. Blocks. */
virDomainPtr virt_lookup(virConnectPtr conn, const char *domain, GError **error);

/* In a worker thread: one command for QEMU, or one request about disks. The answer is owned by the caller. */
char *virt_monitor_command(virConnectPtr conn, const char *domain, const char *command, GError **error);
char *virt_disks(VirtHost *h, virConnectPtr conn, const char *domain, VirtDisks what, const char *arguments,
                 GError **error);

/* Where the host's end of the port @channel is: blocks, in a worker thread. A path that this process can
 * connect to, or else a descriptor that a relay serves (then *ret_fd >= 0). */
char *virt_channel_find(virConnectPtr conn, const char *uri, const char *domain, const char *channel,
                        int *ret_fd, GError **error);
