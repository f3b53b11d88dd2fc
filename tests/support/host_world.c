/* tests/support/host_world.c - the real environment with another clock and other randomness. */
#include "tests/support/host_world.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "host-service/catalogue/event_log.h"
#include "host-service/catalogue/releases.h"
#include "host-service/catalogue/vms.h"

static gint64 wall_us(gpointer self)
{
        return ((HostWorld *)self)->wall_us;
}

static gint64 monotonic_us(gpointer self)
{
        return ((HostWorld *)self)->monotonic_us;
}

static GSource *timer_new(gpointer self, guint delay_ms)
{
        /* Ready as soon as the loop turns: tests do not wait. */
        return g_timeout_source_new(0);
}

static const struct host_clock_ops clock_ops = {wall_us, monotonic_us, timer_new};

static void random_fill(gpointer self, void *buf, gsize len)
{
        for (gsize i = 0; i < len; i++)
                ((guint8 *)buf)[i] = ((HostWorld *)self)->next_random++;
}

static const struct host_random_ops random_ops = {random_fill};

static const struct host_store_ops *store(gpointer self)
{
        return ((HostWorld *)self)->real->store;
}

static gpointer real_self(gpointer self)
{
        return ((HostWorld *)self)->real->self;
}

static int store_create(gpointer self, const char *temp_name, GError **error)
{
        return store(self)->create(real_self(self), temp_name, error);
}

static gboolean store_seal(gpointer self, const char *temp_name, int fd, const char *name, GError **error)
{
        return store(self)->seal(real_self(self), temp_name, fd, name, error);
}

static int store_open(gpointer self, const char *name, GError **error)
{
        return store(self)->open(real_self(self), name, error);
}

static gboolean store_remove(gpointer self, const char *name, GError **error)
{
        return store(self)->remove(real_self(self), name, error);
}

static GStrv store_list(gpointer self, GError **error)
{
        return store(self)->list(real_self(self), error);
}

static char *store_path(gpointer self, const char *name)
{
        return store(self)->path(real_self(self), name);
}

static const struct host_store_ops store_ops = {
        store_create, store_seal, store_open, store_remove, store_list, store_path,
};

static void worker_run(gpointer self, host_work_func work, gpointer data, GCancellable *cancellable,
                       host_work_done done, gpointer user)
{
        HostWorld *w = self;

        w->real->worker->run(w->real->self, work, data, cancellable, done, user);
}

static const struct host_worker_ops worker_ops = {worker_run};

HostWorld *host_world_new(void)
{
        g_autoptr(GError) error = NULL;
        HostWorld *w = g_new0(HostWorld, 1);
        g_autofree char *state = NULL;

        w->dir = tempdir_new();
        state = tempdir_path(w->dir, "state");
        w->real = host_env_real_new(state, &error);
        cr_assert(ne(ptr, w->real, NULL), "%s", error ? error->message : "");
        w->env = *w->real;
        w->env.self = w;
        w->env.clock = &clock_ops;
        w->env.random = &random_ops;
        w->env.store = &store_ops;
        w->env.worker = &worker_ops;
        w->wall_us = G_GINT64_CONSTANT(1700000000) * G_USEC_PER_SEC;
        w->monotonic_us = 1;
        return w;
}

void host_world_free(HostWorld *w)
{
        if (!w)
                return;
        host_env_real_free(w->real);
        tempdir_free(w->dir);
        g_free(w);
}

Catalogue *host_world_catalogue(HostWorld *w)
{
        g_autoptr(GError) error = NULL;
        Catalogue *c = catalogue_open(&w->env, &error);

        cr_assert(ne(ptr, c, NULL), "%s", error ? error->message : "");
        return c;
}

void host_world_settle(HostWorld *w)
{
        while (g_main_context_iteration(w->env.context, FALSE))
                ;
}

void host_world_add_vm(Catalogue *c, const char *name)
{
        g_autofree char *qmp = g_strdup_printf("/run/%s.qmp", name);
        g_autofree char *agent = g_strdup_printf("/run/%s.agent", name);
        g_autoptr(GError) error = NULL;
        VmRecord r = {.name = (char *)name, .qmp = qmp, .agent = agent};

        cr_assert(catalogue_vm_add(c, &r, &error), "%s", error ? error->message : "");
}

void host_world_add_release(Catalogue *c, const char *name, const char *version, guint8 digest,
                            gint64 created_us, const char *const *paths)
{
        g_autofree char *file = g_strdup_printf("%s-%s.moult", name, version);
        g_autoptr(GError) error = NULL;
        ReleaseRecord r = {.name = (char *)name,
                           .version = (char *)version,
                           .file = file,
                           .size = 5000,
                           .padded_size = 2 << 20,
                           .entries = 1000000,
                           .created_us = created_us};

        memset(r.digest, digest, sizeof r.digest);
        cr_assert(catalogue_release_add(c, &r, paths, &error), "%s", error ? error->message : "");
}

char *host_world_events(Catalogue *c, gint64 after)
{
        g_autoptr(GPtrArray) events = catalogue_event_list(c, after, NULL, NULL, 1000, NULL);
        GString *s = g_string_new(NULL);

        for (guint i = 0; events && i < events->len; i++) {
                const EventRecord *e = g_ptr_array_index(events, i);

                g_string_append_printf(s, "%s%s", s->len ? " " : "", e->type);
        }
        return g_string_free(s, FALSE);
}
