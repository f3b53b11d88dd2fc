/* tests/sim/vm.h - a simulated VM: power, boots, its port and monitor, the agent's process and the guest's
 * disk. */
#pragma once

#include "tests/sim/agent.h"
#include "tests/sim/guest_disk.h"
#include "tests/sim/qemu.h"
#include "tests/sim/wire.h"

typedef struct Vm Vm;

struct vm_config {
        const Vault *vault;
        VaultManner (*manner)(gpointer user); /* how the store shows its packs now */
        wire_effect_func effect;
        gpointer user; /* of both */
        gboolean has_monitor;
        guint refuses, unhealthy, slowness; /* as agent_guest */
};

/* It is on, its agent runs. @number: it is "vmN". */
Vm *vm_new(World *w, guint number, const struct vm_config *config);
void vm_free(Vm *vm);

const char *vm_name(const Vm *vm);
/* Of @vms; NULL: none is called so. */
Vm *vm_find(const GPtrArray *vms, const char *name);
const char *vm_port_path(const Vm *vm);
const char *vm_monitor_path(const Vm *vm); /* NULL: none */
/* The host connects to one of the two. NULL with @error: nobody listens. */
Transport *vm_connect(Vm *vm, const char *path, GError **error);
Wire *vm_port(Vm *vm);
Wire *vm_monitor(Vm *vm);
Qemu *vm_qemu(Vm *vm);
GuestDisk *vm_disk(Vm *vm);
Agent *vm_agent(Vm *vm); /* NULL: it does not run */

/* Each ends by itself after @for_us. */
void vm_crash_agent(Vm *vm, gint64 for_us);
void vm_reboot(Vm *vm, gint64 for_us);
void vm_power_off(Vm *vm, gint64 for_us);
/* Powered off, and what it was at vm_keep() when it is on again, boot id and all. Never kept: as
 * vm_power_off(). */
void vm_revert(Vm *vm, gint64 for_us);
void vm_keep(Vm *vm);
