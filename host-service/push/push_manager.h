/* host-service/push/push_manager.h - runs the operations "push" and "rollback": which VM is pushed to when.
 *
 * One push for each VM at a time. All wait for their guests at once; a bounded number talks to them, the
 * others wait for a place in the order of their operations: VMs that are off keep nobody waiting. The manager
 * owns the guests' connections, answers the API's questions about them, and takes the guests' own requests
 * (U1). */
#pragma once

#include "host-service/guest_view.h"
#include "host-service/jobs/jobs.h"
#include "proto/tls_identity.h"

typedef struct PushManager PushManager;

struct push_manager_config {
        const TlsIdentity *identity;      /* must outlive the manager; NULL: no network */
        const char *const *tls_endpoints; /* likewise; NULL-terminated, or NULL: no listener */
        guint patience_ms;                /* how long an absent guest is waited for; 0: 60 s */
        guint stall_ms;                   /* how long a guest may talk without getting on; 0: 5 min */
        guint concurrent;                 /* pushes at once that talk to their guests; 0: 8 */
        guint64 concurrent_bytes;         /* of packs that these stage; 0: any */
        guint per_backing;                /* of these, for VMs that share a backing file; 0: any */
};

/* Registers its kinds with @jobs. Before jobs_begin(). */
PushManager *push_manager_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                              const struct push_manager_config *config, GError **error);
/* After jobs_begin(): listens, connects to the VMs of the catalogue, takes off windows that were left behind.
 * An endpoint that cannot be listened on is logged; the virtio ports work without it. */
void push_manager_begin(PushManager *m);
/* What runs is taken up again by the next daemon. */
void push_manager_free(PushManager *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PushManager, push_manager_free)

/* For rollouts (rollout/), which end their operations themselves. All rows of @operation that are neither
 * final nor held back; those that are here already stay as they are. */
gboolean push_manager_take_up(PushManager *m, const char *operation, GError **error);
/* As a job's cancel. */
void push_manager_cancel(PushManager *m, const char *operation);
/* Asked before a push of a rollout is begun. FALSE: not now; push_manager_go_on() is called when it may be
 * otherwise. Of the operations that it does not know it says TRUE. NULL: nobody is asked any more. */
typedef gboolean (*push_gate_func)(const char *operation, gpointer user);
void push_manager_set_gate(PushManager *m, push_gate_func gate, gpointer user);
void push_manager_go_on(PushManager *m);
/* The VMs of @operation whose pushes are here and have not begun, but for waiting for their guests: of char
 * *, owned. */
GPtrArray *push_manager_not_begun(const PushManager *m, const char *operation);
/* Forgets those; their rows are held back by now. */
void push_manager_let_go(PushManager *m, const char *operation);

/* Asked before any push is begun. TRUE: not now, the VM's disks are going back to a restore point;
 * push_manager_go_on() is called when they have. NULL: nobody is asked. */
typedef gboolean (*push_vm_busy_func)(const char *vm, gpointer user);
void push_manager_set_vm_busy(PushManager *m, push_vm_busy_func busy, gpointer user);

/* Lives as long as the manager. */
const struct guest_view *push_manager_guest_view(PushManager *m);
