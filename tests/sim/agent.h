/* tests/sim/agent.h - a simulated moult-agent: one life of its process, from its start to its end.
 *
 * It speaks the real protocol through the real session and decides by the real table of commands and phases
 * (guest-agent/push_rules.c); in place of the engine it has time that passes and the guest's disk, on which
 * it leaves its steps in the order in which the engine does. */
#pragma once

#include "tests/sim/guest_disk.h"
#include "tests/sim/vault.h"

/* What lies in the guest, or around it, and not in the agent. */
struct agent_guest {
        World *w;
        const char *vm;
        GuestDisk *disk;
        const char *boot_id;
        const Vault *vault;
        /* A window with this release is plugged in; how the store shows it. */
        gboolean (*window)(guint release, VaultManner *ret, gpointer user);
        gpointer user;
        guint refuses, unhealthy; /* of 1000 plans, of 1000 switches */
        guint slowness;           /* times */
};

typedef struct Agent Agent;

/* Takes over @port. */
Agent *agent_new(const struct agent_guest *guest, Transport *port);
/* The process dies; what was not on the disk is gone. */
void agent_free(Agent *a);
/* Nothing is under way here. */
gboolean agent_is_idle(const Agent *a);
/* Somebody in the guest asks for an upgrade (U1). */
void agent_request_upgrade(Agent *a);
/* Somebody in the guest takes the newest generation back. */
void agent_roll_back(Agent *a);
