/* tests/sim/faults.h - what goes wrong, and when: drawn from the seed before the run. */
#pragma once

#include "tests/sim/host.h"

typedef enum {
        FAULT_CUT,     /* a port or a monitor breaks */
        FAULT_STALL,   /* nothing arrives for a while; slow lines */
        FAULT_NOISE,   /* bytes that nobody sent */
        FAULT_KILL,    /* of the host, at one of its next effects */
        FAULT_POWER,   /* likewise, and what was not synced is gone */
        FAULT_RESTART, /* a clean one */
        FAULT_AGENT,   /* an agent dies */
        FAULT_REBOOT,
        FAULT_OFF,    /* a VM is powered off for a while */
        FAULT_REVERT, /* a VM is what it was before */
        FAULT_DISK,   /* full, or EIO */
        FAULT_STORE,  /* lies, or EIO */
        FAULT_WINDOW, /* a guest does not let go */
        FAULT_CLOCK,  /* the wall clock jumps */
        FAULT_GUEST,  /* somebody in the guest wants something */
        FAULTS
} Fault;

const char *fault_name(Fault f);

/* Plans them for the next @during_us; @classes: bits of Fault. Everything is well again at the end of that.
 */
void faults_plan(World *w, Host *h, const GPtrArray *vms, guint classes, gint64 during_us);
/* Something was recorded after which a death of the host is of interest: it comes @of_1000 times. */
void faults_moment(World *w, Host *h, guint classes, guint of_1000);
