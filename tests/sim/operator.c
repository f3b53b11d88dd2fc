/* tests/sim/operator.c - who operates the host. */
#include "tests/sim/operator.h"

#include <string.h>

#include "host-service/catalogue/event_log.h"
#include "host-service/catalogue/vms.h"
#include "host-service/jobs/push_operation.h"
#include "tests/sim/reported.h"
#include "tests/sim/rollouts.h"

#define RETRY_US G_USEC_PER_SEC

struct told { /* an event that was seen */
        gint64 seq;
        char *type, *operation, *vm;
};

struct Operator {
        World *w;
        Host *host;
        const GPtrArray *vms;
        struct operator_config config;
        GPtrArray *operations; /* of char * */
        GPtrArray *told;       /* of struct told, owned; oldest first */
        Rollouts *rollouts;
        RolloutRules *rules;
        guint to_do, vms_added;
        gint64 last_seq;
        gboolean looks;
        Operator *self; /* its address names the look at the events */
};

static void told_free(gpointer p)
{
        struct told *t = p;

        g_free(t->type);
        g_free(t->operation);
        g_free(t->vm);
        g_free(t);
}

/* --- asking --- */

static void one_done(Operator *o)
{
        o->to_do--;
}

static void add_operation(gpointer user);
static void cancel_something(gpointer user);

static void add_vms(gpointer user)
{
        Operator *o = user;

        while (o->vms_added < o->vms->len) {
                Vm *vm = o->vms->pdata[o->vms_added];
                VmRecord r = {.name = (char *)vm_name(vm),
                              .agent = (char *)vm_port_path(vm),
                              .qmp = (char *)vm_monitor_path(vm)};
                g_autoptr(GError) error = NULL;

                if (!host_is_up(o->host) || (!catalogue_vm_add(host_catalogue(o->host), &r, &error) &&
                                             !g_error_matches(error, MOULT_ERROR, MOULT_ERROR_BUSY))) {
                        world_at(o->w, RETRY_US, add_vms, o);
                        return;
                }
                if (!host_is_up(o->host))
                        continue;
                host_vm_changed(o->host, vm_name(vm));
                o->vms_added++;
        }
        for (guint i = 0; i < o->config.operations; i++)
                world_at(o->w,
                         world_between(o->w, 0, (guint)(o->config.during_us / 1000)) *
                                 G_GINT64_CONSTANT(1000),
                         add_operation, o);
        rollouts_begin(o->rollouts, o->config.rollouts, o->config.during_us);
}

static void choose_options(Operator *o, struct push_options *options)
{
        static const PushTransport transports[] = {PUSH_TRANSPORT_AUTO, PUSH_TRANSPORT_AUTO,
                                                   PUSH_TRANSPORT_SERIAL, PUSH_TRANSPORT_IVSHMEM};

        options->dry_run = world_chance(o->w, 120);
        options->transport = transports[world_random(o->w, G_N_ELEMENTS(transports))];
        options->confirm_timeout_ms = world_between(o->w, 5, 60) * 1000;
}

static void choose_vms(Operator *o, const char **ret)
{
        guint n = 0, first = world_random(o->w, o->vms->len);

        ret[n++] = vm_name(o->vms->pdata[first]);
        for (guint i = 0; i < o->vms->len; i++)
                if (i != first && world_chance(o->w, 400))
                        ret[n++] = vm_name(o->vms->pdata[i]);
        ret[n] = NULL;
}

static char *ask(Operator *o, GError **error)
{
        g_autofree const char **vms = g_new0(const char *, o->vms->len + 1);
        guint8 digest[DIGEST_SIZE];
        g_autoptr(ReleaseRecord) release = NULL;
        struct push_options options = {0};
        Catalogue *c = host_catalogue(o->host);

        choose_vms(o, vms);
        options.rollback = world_chance(o->w, 150);
        if (!options.rollback) {
                choose_options(o, &options);
                vault_digest(world_between(o->w, 1, VAULT_RELEASES), digest);
                release = catalogue_release_by_digest(c, digest, error);
                if (!release)
                        return NULL;
        }
        return push_operation_add(host_environment(o->host), c, host_jobs(o->host), release, vms, &options,
                                  error);
}

static void add_operation(gpointer user)
{
        Operator *o = user;
        g_autofree char *id = NULL;

        if (host_is_up(o->host))
                id = ask(o, NULL);
        if (!id || !host_is_up(o->host)) { /* no answer: he asks again, whatever came of it */
                world_at(o->w, RETRY_US, add_operation, o);
                return;
        }
        world_trace(o->w, "operator asked for %s", id);
        g_ptr_array_add(o->operations, g_strdup(id));
        if (world_chance(o->w, 250))
                world_at(o->w, world_between(o->w, 0, 8000) * G_GINT64_CONSTANT(1000), cancel_something, o);
        else
                one_done(o);
}

static void cancel_something(gpointer user)
{
        Operator *o = user;
        const char *id = o->operations->pdata[world_random(o->w, o->operations->len)];
        g_autoptr(GError) error = NULL;

        if (!host_is_up(o->host) || (!jobs_cancel(host_jobs(o->host), id, &error) &&
                                     !g_error_matches(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE))) {
                world_at(o->w, RETRY_US, cancel_something, o);
                return;
        }
        world_trace(o->w, "operator cancels %s: %s", id, error ? "too late" : "asked");
        one_done(o);
}

/* --- listening --- */

static gboolean is_end(const char *type)
{
        static const char *const ends[] = {"push.done",         "push.rolled-back",
                                           "push.refused",      "push.failed",
                                           "push.cancelled",    "operation.succeeded",
                                           "operation.failed",  "operation.cancelled",
                                           "operation.partial", NULL};

        return g_strv_contains(ends, type);
}

/* Every push and every operation ends once. */
static void check_end(Operator *o, const EventRecord *e)
{
        for (guint i = 0; i < o->told->len; i++) {
                const struct told *t = o->told->pdata[i];

                if (is_end(t->type) && g_strcmp0(t->operation, e->operation) == 0 &&
                    g_strcmp0(t->vm, e->vm) == 0)
                        world_fail(o->w, "%s of %s %s: it had ended already, with %s", e->type, e->operation,
                                   e->vm ? e->vm : "", t->type);
        }
}

static void take(Operator *o, const EventRecord *e)
{
        struct told *t = g_new0(struct told, 1);

        o->last_seq = e->seq;
        world_trace(o->w, "event %" G_GINT64_FORMAT " %s %s %s", e->seq, e->type,
                    e->operation ? e->operation : "-", e->vm ? e->vm : "-");
        if (is_end(e->type)) {
                check_end(o, e);
                if (e->vm)
                        reported_check(o->w, host_catalogue(o->host), e->operation, vm_find(o->vms, e->vm));
        }
        rollout_rules_take(o->rules, host_catalogue(o->host), e);
        if (rollout_rules_know(o->rules, e->operation))
                o->config.moment(is_end(e->type) && !g_str_equal(e->type, "push.done"), o->config.user);
        *t = (struct told){e->seq, g_strdup(e->type), g_strdup(e->operation), g_strdup(e->vm)};
        g_ptr_array_add(o->told, t);
}

void operator_read_events(Operator *o)
{
        g_autoptr(GPtrArray) events =
                catalogue_event_list(host_catalogue(o->host), o->last_seq, NULL, NULL, 1000, NULL);

        for (guint i = 0; events && i < events->len; i++)
                take(o, events->pdata[i]);
}

void operator_compare_events(Operator *o)
{
        g_autoptr(GPtrArray) events =
                catalogue_event_list(host_catalogue(o->host), 0, NULL, NULL, 100000, NULL);

        for (guint i = 0; events && i < o->told->len; i++) {
                const struct told *t = o->told->pdata[i];
                const EventRecord *e = i < events->len ? events->pdata[i] : NULL;

                if (!e || e->seq != t->seq || !g_str_equal(e->type, t->type) ||
                    g_strcmp0(e->operation, t->operation) != 0 || g_strcmp0(e->vm, t->vm) != 0) {
                        world_fail(o->w,
                                   "event %" G_GINT64_FORMAT
                                   " %s was told, and is not there after the restart",
                                   t->seq, t->type);
                        return;
                }
        }
}

/* --- life --- */

static void look(gpointer user)
{
        Operator *o = *(Operator **)user;

        o->looks = FALSE;
        if (host_is_up(o->host))
                operator_read_events(o);
}

/* Not from inside the commit. */
static void on_events(gpointer user)
{
        Operator *o = user;

        if (!o->looks)
                world_at(o->w, 0, look, &o->self);
        o->looks = TRUE;
}

Operator *operator_new(World *w, Host *h, const GPtrArray *vms, const struct operator_config *config)
{
        Operator *o = g_new0(Operator, 1);

        o->w = w;
        o->host = h;
        o->vms = vms;
        o->config = *config;
        o->self = o;
        o->to_do = config->operations;
        o->operations = g_ptr_array_new_with_free_func(g_free);
        o->told = g_ptr_array_new_with_free_func(told_free);
        o->rules = rollout_rules_new(w, vms, config->concurrent, config->concurrent_bytes);
        o->rollouts = rollouts_new(w, h, o->rules);
        host_set_listener(h, on_events, o);
        world_at(w, 1000, add_vms, o);
        return o;
}

void operator_free(Operator *o)
{
        if (!o)
                return;
        world_forget(o->w, o);
        world_forget(o->w, &o->self);
        rollouts_free(o->rollouts);
        rollout_rules_free(o->rules);
        g_ptr_array_unref(o->operations);
        g_ptr_array_unref(o->told);
        g_free(o);
}

gboolean operator_is_done(const Operator *o)
{
        return o->to_do == 0 && rollouts_are_done(o->rollouts);
}

void operator_each_operation(const Operator *o, GFunc func, gpointer user)
{
        g_ptr_array_foreach(o->operations, func, user);
        g_ptr_array_foreach((GPtrArray *)rollouts_ids(o->rollouts), func, user);
}

guint operator_count(const Operator *o)
{
        return o->operations->len + rollouts_ids(o->rollouts)->len;
}
