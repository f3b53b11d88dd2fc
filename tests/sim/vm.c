/* tests/sim/vm.c - a simulated VM. */
#include "tests/sim/vm.h"

#include "common/error.h"

struct Vm {
        World *w;
        struct vm_config config;
        char *name, *port_path, *monitor_path;
        Wire *port, *monitor;
        Qemu *qemu;
        GuestDisk *disk, *kept;
        char boot_id[40], kept_boot_id[40];
        guint boots;
        gboolean on;
        struct agent_guest guest;
        Agent *agent;
};

static gboolean shows(guint release, VaultManner *ret, gpointer user)
{
        Vm *vm = user;
        const char *path = qemu_window(vm->qemu);

        if (!path || vault_find_file(path) != release)
                return FALSE;
        *ret = vm->config.manner(vm->config.user);
        return TRUE;
}

static void new_boot(Vm *vm)
{
        g_snprintf(vm->boot_id, sizeof vm->boot_id, "%08x-2222-3333-4444-5555%08x", ++vm->boots,
                   world_random(vm->w, G_MAXINT32));
}

static void agent_start(gpointer user)
{
        Vm *vm = user;

        if (vm->agent || !vm->on)
                return;
        world_trace(vm->w, "%s agent starts", vm->name);
        vm->agent = agent_new(&vm->guest, wire_attach(vm->port, WIRE_FAR));
}

static void agent_stop(Vm *vm)
{
        g_clear_pointer(&vm->agent, agent_free);
        world_forget(vm->w, vm);
}

Vm *vm_new(World *w, guint number, const struct vm_config *config)
{
        Vm *vm = g_new0(Vm, 1);
        g_autofree char *port = NULL, *monitor = NULL;

        vm->w = w;
        vm->config = *config;
        vm->name = g_strdup_printf("vm%u", number);
        vm->port_path = g_strdup_printf("/sim/vm%u.port", number);
        vm->monitor_path = config->has_monitor ? g_strdup_printf("/sim/vm%u.qmp", number) : NULL;
        port = g_strdup_printf("%s port", vm->name);
        monitor = g_strdup_printf("%s qmp", vm->name);
        vm->port = wire_new(w, port, TRUE, config->effect, config->user);
        vm->monitor = wire_new(w, monitor, FALSE, config->effect, config->user);
        vm->qemu = qemu_new(w, vm->name, 1 + world_random(w, 2));
        vm->disk = guest_disk_new(w, vm->name);
        vm->guest = (struct agent_guest){.w = w,
                                         .vm = vm->name,
                                         .disk = vm->disk,
                                         .boot_id = vm->boot_id,
                                         .vault = config->vault,
                                         .window = shows,
                                         .user = vm,
                                         .refuses = config->refuses,
                                         .unhealthy = config->unhealthy,
                                         .slowness = config->slowness};
        vm->on = TRUE;
        new_boot(vm);
        agent_start(vm);
        return vm;
}

void vm_free(Vm *vm)
{
        if (!vm)
                return;
        agent_stop(vm);
        qemu_free(vm->qemu);
        wire_free(vm->port);
        wire_free(vm->monitor);
        guest_disk_free(vm->disk);
        guest_disk_free(vm->kept);
        g_free(vm->name);
        g_free(vm->port_path);
        g_free(vm->monitor_path);
        g_free(vm);
}

const char *vm_name(const Vm *vm)
{
        return vm->name;
}

Vm *vm_find(const GPtrArray *vms, const char *name)
{
        for (guint i = 0; i < vms->len; i++)
                if (g_strcmp0(vm_name(vms->pdata[i]), name) == 0)
                        return vms->pdata[i];
        return NULL;
}

const char *vm_port_path(const Vm *vm)
{
        return vm->port_path;
}

const char *vm_monitor_path(const Vm *vm)
{
        return vm->monitor_path;
}

Wire *vm_port(Vm *vm)
{
        return vm->port;
}

Wire *vm_monitor(Vm *vm)
{
        return vm->monitor;
}

Qemu *vm_qemu(Vm *vm)
{
        return vm->qemu;
}

GuestDisk *vm_disk(Vm *vm)
{
        return vm->disk;
}

Agent *vm_agent(Vm *vm)
{
        return vm->agent;
}

Transport *vm_connect(Vm *vm, const char *path, GError **error)
{
        gboolean is_port = g_strcmp0(path, vm->port_path) == 0;
        Wire *wire = is_port ? vm->port : vm->monitor;

        if (!vm->on) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "%s: nobody listens", path);
                return NULL;
        }
        if (wire_is_attached(wire, WIRE_HOST) || (!is_port && qemu_is_served(vm->qemu))) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "%s: somebody is connected already", path);
                return NULL;
        }
        if (!is_port)
                qemu_serve(vm->qemu, wire_attach(wire, WIRE_FAR));
        return wire_attach(wire, WIRE_HOST);
}

/* --- what befalls it --- */

void vm_crash_agent(Vm *vm, gint64 for_us)
{
        if (!vm->agent)
                return;
        world_trace(vm->w, "%s agent dies", vm->name);
        agent_stop(vm);
        world_at(vm->w, for_us, agent_start, vm);
}

static void booted(gpointer user)
{
        Vm *vm = user;

        if (vm->disk->journal.phase != 0)
                vm->disk->journal.boots++;
        new_boot(vm);
        agent_start(vm);
}

void vm_reboot(Vm *vm, gint64 for_us)
{
        if (!vm->on)
                return;
        world_trace(vm->w, "%s reboots", vm->name);
        agent_stop(vm);
        qemu_reset(vm->qemu);
        world_at(vm->w, for_us, booted, vm);
}

static void turn_off(Vm *vm)
{
        agent_stop(vm);
        vm->on = FALSE;
        qemu_off(vm->qemu);
        wire_cut(vm->port);
        wire_cut(vm->monitor);
}

static void turn_on(gpointer user)
{
        Vm *vm = user;

        world_trace(vm->w, "%s is on", vm->name);
        vm->on = TRUE;
        booted(vm);
}

void vm_power_off(Vm *vm, gint64 for_us)
{
        if (!vm->on)
                return;
        world_trace(vm->w, "%s is off", vm->name);
        turn_off(vm);
        world_at(vm->w, for_us, turn_on, vm);
}

void vm_keep(Vm *vm)
{
        guest_disk_free(vm->kept);
        vm->kept = guest_disk_copy(vm->disk);
        g_strlcpy(vm->kept_boot_id, vm->boot_id, sizeof vm->kept_boot_id);
}

static void turn_on_kept(gpointer user)
{
        Vm *vm = user;

        world_trace(vm->w, "%s is what it was", vm->name);
        vm->on = TRUE;
        g_strlcpy(vm->boot_id, vm->kept_boot_id, sizeof vm->boot_id);
        agent_start(vm);
}

void vm_revert(Vm *vm, gint64 for_us)
{
        guint reverts = vm->disk->reverts;

        if (!vm->on || !vm->kept) {
                vm_power_off(vm, for_us);
                return;
        }
        world_trace(vm->w, "%s is reverted", vm->name);
        turn_off(vm);
        guest_disk_free(vm->disk);
        vm->disk = guest_disk_copy(vm->kept);
        vm->disk->reverts = reverts + 1;
        vm->guest.disk = vm->disk;
        world_at(vm->w, for_us, turn_on_kept, vm);
}
