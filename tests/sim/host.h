/* tests/sim/host.h - the moultd of the simulation: the real host service without its HTTP server, on a
 * simulated environment.
 *
 * It dies at its N-th effect on the world (a write, a sync, bytes sent): from then on nothing that it does
 * counts; it is taken down as soon as it returns to the loop, and what the next start finds is what was there
 * at that moment. */
#pragma once

#include "host-service/catalogue/pushes.h"
#include "host-service/jobs/jobs.h"
#include "host-service/push/push_manager.h"
#include "tests/sim/disk.h"
#include "tests/sim/vault.h"
#include "tests/sim/vm.h"

typedef struct Host Host;

/* @template: an empty catalogue of this schema (host_template_new()). */
Host *host_new(World *w, const Vault *vault, GBytes *template);
void host_free(Host *h);
GBytes *host_template_new(const Vault *vault);

/* The VMs that it can connect to; borrowed. Before host_start(). */
void host_set_vms(Host *h, const GPtrArray *vms);
#define HOST_CONCURRENT 8u
/* As in push_manager_config. Before host_start(). */
void host_set_budgets(Host *h, guint concurrent, guint64 bytes);
/* A start that fails (the disk is full, say) is tried again, as systemd does it. */
void host_start(Host *h);
/* Takes it down for good. */
void host_stop(Host *h);
/* Ends as after SIGTERM, and is started again. */
void host_restart(Host *h, gint64 down_us);
/* kill -9, or with @power_cut the machine's end, at the @effects-th effect from now; started again then. */
void host_kill(Host *h, guint effects, gboolean power_cut, gint64 down_us);
/* To be called after each step of the world. */
void host_bury(Host *h);
gboolean host_is_up(const Host *h); /* and not dying */

/* Of the living one. */
Catalogue *host_catalogue(Host *h);
Jobs *host_jobs(Host *h);
const struct host_env *host_environment(const Host *h);
void host_vm_changed(Host *h, const char *vm); /* it was added to the catalogue */
Disk *host_disk(Host *h);

gboolean host_effect(gpointer host); /* a wire_effect_func */
void host_set_store(Host *h, VaultManner manner, gboolean broken);
VaultManner host_store_manner(gpointer host);
/* Called when a living host has committed events, from inside the commit. */
void host_set_listener(Host *h, world_func func, gpointer user);
