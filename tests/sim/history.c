/* tests/sim/history.c - one run. */
#include "tests/sim/history.h"

#include <fcntl.h>
#include <unistd.h>

#include "host-service/catalogue/operations.h"
#include "tests/sim/faults.h"
#include "tests/sim/operator.h"
#include "tests/sim/reported.h"

/* All ends within so long after the last fault: a queue of pushes whose guests do not answer, each with the
 * patience that the host has with it. */
#define CALM_US (G_GINT64_CONSTANT(45) * 60 * G_USEC_PER_SEC)
#define LOOK_US (5 * G_USEC_PER_SEC)
/* A hypervisor is asked again after a minute. */
#define QUIET_US (75 * G_USEC_PER_SEC)
#define VMS_MAX  3u
/* Of a history with rollouts. */
#define FLEET_MAX 5u

struct run {
        World *w;
        Host *host;
        GPtrArray *vms;
        Operator *operator;
        guint classes;                  /* of faults */
        gint64 faults_end_us, ended_us; /* 0: not all operations have */
        gboolean over, was_up;
};

static gboolean all_ended(struct run *r)
{
        g_autoptr(GPtrArray) open = catalogue_operation_unfinished(host_catalogue(r->host), NULL);

        return open && open->len == 0;
}

static gboolean agents_rest(const struct run *r)
{
        for (guint i = 0; i < r->vms->len; i++) {
                const Agent *a = vm_agent(r->vms->pdata[i]);

                if (!a || !agent_is_idle(a))
                        return FALSE;
        }
        return TRUE;
}

static gboolean windows_left(const struct run *r)
{
        for (guint i = 0; i < r->vms->len; i++)
                if (qemu_has_anything(vm_qemu(r->vms->pdata[i])))
                        return TRUE;
        return FALSE;
}

/* --- the end --- */

static void check_operation(gpointer id, gpointer user)
{
        struct run *r = user;
        g_autoptr(OperationRecord) op = catalogue_operation_get(host_catalogue(r->host), id, NULL);

        if (!op)
                world_fail(r->w, "operation %s was promised, and is lost", (char *)id);
        else if (!operation_state_is_final(op->state))
                world_fail(r->w, "operation %s is %s still", (char *)id, operation_state_name(op->state));
}

static void check_end(struct run *r)
{
        operator_read_events(r->operator);
        operator_each_operation(r->operator, check_operation, r);
        for (guint i = 0; i < r->vms->len; i++) {
                Vm *vm = r->vms->pdata[i];

                guest_disk_check(vm_disk(vm));
                reported_check_vm(r->w, host_catalogue(r->host), vm);
                if (qemu_has_anything(vm_qemu(vm)))
                        world_fail(r->w, "%s: a window is left plugged in", vm_name(vm));
        }
}

static const char *what_is_missing(struct run *r)
{
        return !host_is_up(r->host)             ? "the host does not come up"
               : !operator_is_done(r->operator) ? "the host takes no operations"
               : !all_ended(r)                  ? "an operation does not end"
               : !agents_rest(r)                ? "a guest is kept busy"
                                                : NULL;
}

static void look(gpointer user)
{
        struct run *r = user;
        gint64 now = world_now_us(r->w);
        const char *missing = now < r->faults_end_us ? "there are faults" : what_is_missing(r);

        if (missing && now > r->faults_end_us + CALM_US)
                world_fail(r->w, "no progress after the last fault: %s", missing);
        if (missing)
                r->ended_us = 0;
        else if (r->ended_us == 0)
                r->ended_us = now;
        if (r->ended_us && now - r->ended_us >= (windows_left(r) ? 5 * QUIET_US : QUIET_US / 2)) {
                check_end(r);
                r->over = TRUE;
                return;
        }
        world_at(r->w, LOOK_US, look, r);
}

/* --- the beginning --- */

/* @ill: of 1000 guests, how many refuse releases now and then, or find themselves unhealthy. */
static void add_vms(struct run *r, const Vault *vault, guint n, guint ill)
{
        for (guint i = 0; i < n; i++) {
                struct vm_config config = {.vault = vault,
                                           .manner = host_store_manner,
                                           .effect = host_effect,
                                           .user = r->host,
                                           .has_monitor = world_chance(r->w, 700),
                                           .refuses = world_chance(r->w, ill) ? 200 : 0,
                                           .unhealthy = world_chance(r->w, ill) ? 300 : 0,
                                           .slowness = world_chance(r->w, 150) ? 20 : 1};

                g_ptr_array_add(r->vms, vm_new(r->w, i, &config));
        }
}

static guint choose_faults(struct run *r, gint only)
{
        guint classes = 0;

        if (only == -2)
                return 0;
        if (only >= 0)
                return 1u << only;
        for (guint i = 0; i < FAULTS; i++)
                if (world_chance(r->w, 220))
                        classes |= 1u << i;
        return classes;
}

static void on_moment(gboolean failed, gpointer user)
{
        struct run *r = user;

        if (world_now_us(r->w) < r->faults_end_us)
                faults_moment(r->w, r->host, r->classes, failed ? 400 : 50);
}

static void choose_rollouts(struct run *r, struct operator_config *config)
{
        config->operations = world_random(r->w, 3);
        config->rollouts = world_chance(r->w, 300) ? 2 : 1;
        config->concurrent = world_chance(r->w, 500) ? HOST_CONCURRENT : world_between(r->w, 1, 3);
        config->concurrent_bytes = world_chance(r->w, 700) ? 0 : world_between(r->w, 1, 3) * VAULT_PACK_SIZE;
}

static void begin(struct run *r, guint64 seed, const struct history_options *options)
{
        struct operator_config config = {.operations = 1 + world_random(r->w, 4),
                                         .during_us = world_between(r->w, 1, 60) * G_USEC_PER_SEC,
                                         .concurrent = HOST_CONCURRENT,
                                         .moment = on_moment,
                                         .user = r};
        gint64 during_us = world_between(r->w, 5, 90) * G_USEC_PER_SEC;
        guint classes = choose_faults(r, options->only);
        guint ill = 200, n_vms = 1 + world_random(r->w, VMS_MAX);

        if (seed % 5 == 1 || seed % 5 == 3) {
                n_vms = world_between(r->w, 2, FLEET_MAX);
                ill = world_chance(r->w, 500) ? 200 : 1000; /* the releases themselves are bad */
                choose_rollouts(r, &config);
        }
        add_vms(r, options->vault, n_vms, ill);
        host_set_vms(r->host, r->vms);
        host_set_budgets(r->host, config.concurrent, config.concurrent_bytes);
        r->operator= operator_new(r->w, r->host, r->vms, &config);
        host_start(r->host);
        if (classes) {
                r->classes = classes;
                faults_plan(r->w, r->host, r->vms, classes, during_us);
                r->faults_end_us = world_now_us(r->w) + during_us;
        }
        world_at(r->w, LOOK_US, look, r);
}

static void go_on(struct run *r)
{
        while (!r->over && !world_failure(r->w)) {
                if (!world_step(r->w)) {
                        world_fail(r->w, "nothing will happen any more");
                        break;
                }
                host_bury(r->host);
                if (host_is_up(r->host) && !r->was_up)
                        operator_compare_events(r->operator);
                r->was_up = host_is_up(r->host);
        }
}

/* Somebody who opens and does not close makes this number grow. */
static int next_descriptor(void)
{
        int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);

        if (fd >= 0)
                close(fd);
        return fd;
}

void history_run(guint64 seed, const struct history_options *options, struct history_result *ret)
{
        g_autoptr(World) w = world_new(seed, options->trace);
        struct run r = {.w = w, .vms = g_ptr_array_new()};
        int fd = next_descriptor();

        r.host = host_new(w, options->vault, options->template);
        begin(&r, seed, options);
        go_on(&r);
        ret->simulated_us = world_now_us(w);
        ret->operations = operator_count(r.operator);
        host_stop(r.host);
        operator_free(r.operator);
        world_forget(w, &r);
        for (guint i = 0; i < r.vms->len; i++)
                vm_free(r.vms->pdata[i]);
        g_ptr_array_unref(r.vms);
        host_free(r.host);
        if (next_descriptor() != fd)
                world_fail(w, "a descriptor is left open");
        ret->failure = g_strdup(world_failure(w));
        ret->digest = g_strdup(world_digest(w));
}

void history_result_clear(struct history_result *r)
{
        g_clear_pointer(&r->failure, g_free);
        g_clear_pointer(&r->digest, g_free);
}
