/* tests/sim/faults.c - what goes wrong, and when. */
#include "tests/sim/faults.h"

#define MS      G_GINT64_CONSTANT(1000)
#define AT_MOST 4u /* of one class */

/* One that will happen. Freed by it. */
struct fault {
        World *w;
        Host *host;
        const GPtrArray *vms;
        Fault what;
        gint64 end_us; /* of the time of faults */
};

static const char *const names[FAULTS] = {"cut",     "stall", "noise",  "kill",  "power",
                                          "restart", "agent", "reboot", "off",   "revert",
                                          "disk",    "store", "window", "clock", "guest"};

const char *fault_name(Fault f)
{
        return names[f];
}

/* For how long; not beyond the end. */
static gint64 span(const struct fault *f, guint low_ms, guint high_ms)
{
        gint64 left = f->end_us - world_now_us(f->w);

        return MAX(MIN(world_between(f->w, low_ms, high_ms) * MS, left), 0);
}

static void disk_is_well(gpointer user)
{
        disk_set_health(user, DISK_HEALTHY);
}

static void store_is_well(gpointer user)
{
        host_set_store(user, VAULT_HONEST, FALSE);
}

static void line_is_fast(gpointer user)
{
        wire_set_latency(user, 400);
}

static void break_disk(const struct fault *f)
{
        DiskHealth health = (DiskHealth)(1 + world_random(f->w, DISK_HEALTHS - 1));

        world_trace(f->w, "disk is ill: %d", (int)health);
        disk_set_health(host_disk(f->host), health);
        world_at(f->w, span(f, 10, 8000), disk_is_well, host_disk(f->host));
}

static void break_store(const struct fault *f)
{
        guint how = world_random(f->w, 3);

        world_trace(f->w, "store lies: %u", how);
        host_set_store(f->host, how == 0 ? VAULT_FLIPPED : how == 1 ? VAULT_SHORT : VAULT_HONEST, how == 2);
        world_at(f->w, span(f, 100, 20000), store_is_well, f->host);
}

static void slow_down(const struct fault *f, Wire *wire)
{
        if (world_chance(f->w, 500)) {
                wire_stall(wire, span(f, 50, 40000));
        } else {
                wire_set_latency(wire, world_between(f->w, 5, 2000) * MS);
                world_at(f->w, span(f, 100, 30000), line_is_fast, wire);
        }
}

static void befall_guest(const struct fault *f, Vm *vm)
{
        if (!vm_agent(vm))
                return;
        if (world_chance(f->w, 500))
                agent_request_upgrade(vm_agent(vm));
        else
                agent_roll_back(vm_agent(vm));
}

static guint some_effects(const struct fault *f)
{
        return world_chance(f->w, 300) ? 0 : world_between(f->w, 1, world_chance(f->w, 500) ? 6 : 60);
}

static void happen(gpointer user)
{
        g_autofree struct fault *f = user;
        Vm *vm = f->vms->pdata[world_random(f->w, f->vms->len)];
        Wire *wire = world_chance(f->w, 700) ? vm_port(vm) : vm_monitor(vm);

        world_trace(f->w, "fault %s %s", fault_name(f->what), vm_name(vm));
        switch (f->what) {
        case FAULT_CUT:
                wire_cut(wire);
                break;
        case FAULT_STALL:
                slow_down(f, wire);
                break;
        case FAULT_NOISE:
                wire_noise(vm_port(vm), world_chance(f->w, 500) ? WIRE_HOST : WIRE_FAR);
                break;
        case FAULT_KILL:
        case FAULT_POWER:
                host_kill(f->host, some_effects(f), f->what == FAULT_POWER, span(f, 50, 15000));
                break;
        case FAULT_RESTART:
                host_restart(f->host, span(f, 50, 5000));
                break;
        case FAULT_AGENT:
                vm_crash_agent(vm, span(f, 100, 8000));
                break;
        case FAULT_REBOOT:
                vm_reboot(vm, span(f, 1000, 20000));
                break;
        case FAULT_OFF:
                vm_power_off(vm, span(f, 1000, 90000));
                break;
        case FAULT_REVERT:
                vm_revert(vm, span(f, 1000, 20000));
                break;
        case FAULT_DISK:
                break_disk(f);
                break;
        case FAULT_STORE:
                break_store(f);
                break;
        case FAULT_WINDOW:
                qemu_hold_windows(vm_qemu(vm), span(f, 1000, 60000));
                break;
        case FAULT_CLOCK:
                world_jump_wall(f->w, ((gint64)world_random(f->w, 7200) - 3600) * G_USEC_PER_SEC);
                break;
        case FAULT_GUEST:
                befall_guest(f, vm);
                break;
        case FAULTS:
                break;
        }
}

static void keep(gpointer user)
{
        vm_keep(user);
}

void faults_plan(World *w, Host *h, const GPtrArray *vms, guint classes, gint64 during_us)
{
        for (guint class = 0; class < FAULTS; class ++) {
                guint n = classes & (1u << class) ? world_between(w, 1, AT_MOST) : 0;

                for (guint i = 0; i < n; i++) {
                        struct fault *f = g_new(struct fault, 1);

                        *f = (struct fault){w, h, vms, (Fault) class, world_now_us(w) + during_us};
                        world_at_full(w, world_random(w, (guint)(during_us / 1000)) * MS, happen, f, g_free);
                }
        }
        for (guint i = 0; classes & (1u << FAULT_REVERT) && i < vms->len; i++)
                world_at(w, world_random(w, (guint)(during_us / 2000)) * MS, keep, vms->pdata[i]);
}

void faults_moment(World *w, Host *h, guint classes, guint of_1000)
{
        guint deaths = classes & (1u << FAULT_KILL | 1u << FAULT_POWER);

        if (!deaths || !world_chance(w, of_1000))
                return;
        world_trace(w, "fault at a moment");
        host_kill(h, world_between(w, 1, 30), (deaths & (1u << FAULT_POWER)) != 0,
                  world_between(w, 50, 5000) * MS);
}
