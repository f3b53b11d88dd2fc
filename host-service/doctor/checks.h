/* host-service/doctor/checks.h - what is wrong with this host or a VM as the host sees it, and what to do: a
 * table of pure checks. What only the guest knows: guest_checks.h.
 *
 * doctor/facts.h gathers what they look at. */
#pragma once

#include "host-service/catalogue/pushes.h"
#include "host-service/catalogue/vms.h"
#include "host-service/doctor/finding.h"

struct host_facts {
        guint trusted_keys;
        char *trust_dir, *trust_problem; /* problem NULL: none */
        char *state_dir;
        guint64 free_bytes, size_bytes; /* of the state directory's file system; size 0: not known */
        guint state_mode, packs_mode;   /* permission bits */
        gboolean others_reach_state;    /* every folder above it lets others pass */
        gboolean can_be_immutable, wants_immutable;
        guint64 open_files_max;
        guint vms, vms_away, vms_network; /* network: those that have no port */
        gboolean listens_for_agents;
        GPtrArray *packs_missing; /* "NAME VERSION" of releases whose file is not in the store */
        char *audit_problem;      /* NULL: none */
        GPtrArray *tokens_ending; /* names: valid, and over within a week */
};
void host_facts_clear(struct host_facts *f);

/* What is at the path of a socket. */
typedef enum { SOCKET_NONE, SOCKET_MISSING, SOCKET_OTHER, SOCKET_FORBIDDEN, SOCKET_THERE } SocketState;

struct vm_facts {
        VmRecord *vm;
        gboolean connected, qmp_answers;
        char *away; /* why its hypervisor does not have it any more; NULL: it has, as far as is known */
        SocketState agent, qmp; /* NONE: the VM was added without it */
        PushRecord *last;       /* the newest push that has ended; or NULL */
        gboolean window_left;   /* of an ended push, still plugged */
        gint64 now_us;
};
void vm_facts_clear(struct vm_facts *f);

/* One finding for each check, in the order of the table. Owned by the caller. */
GPtrArray *doctor_judge_host(const struct host_facts *f);
GPtrArray *doctor_judge_vm(const struct vm_facts *f);
