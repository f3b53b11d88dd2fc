/* tests/sim/host_env.c - host-service/env.h, simulated. */
#include "tests/sim/host_env.h"

#include <errno.h>

#include "common/error.h"

static gint64 wall_us(gpointer self)
{
        return world_wall_us(((struct host_surroundings *)self)->w);
}

static gint64 monotonic_us(gpointer self)
{
        return world_now_us(((struct host_surroundings *)self)->w);
}

static GSource *timer_new(gpointer self, guint delay_ms)
{
        return world_timer_new(((struct host_surroundings *)self)->w, (gint64)delay_ms * 1000);
}

static const struct host_clock_ops clock_ops = {wall_us, monotonic_us, timer_new};

static void random_fill(gpointer self, void *buf, gsize len)
{
        world_random_fill(((struct host_surroundings *)self)->w, buf, len);
}

static const struct host_random_ops random_ops = {random_fill};

/* --- sessions --- */

static gint64 session_now_us(gpointer env)
{
        return monotonic_us(env);
}

static void session_random(gpointer env, void *ret, gsize len)
{
        random_fill(env, ret, len);
}

static void session_arm(gpointer env, Session *s, gint64 deadline_us)
{
        world_session_environment.arm(((struct host_surroundings *)env)->w, s, deadline_us);
}

static const struct session_environment session_ops = {session_now_us, session_random, session_arm};

/* --- channels --- */

struct connecting {
        struct host_surroundings *s;
        char *path;
        GCancellable *cancellable;
        host_connected_func done;
        gpointer user;
};

static void connecting_free(gpointer p)
{
        struct connecting *c = p;

        g_free(c->path);
        g_clear_object(&c->cancellable);
        g_free(c);
}

static Transport *connect_now(const struct connecting *c, GError **error)
{
        if (g_cancellable_is_cancelled(c->cancellable)) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_CANCELLED, "cancelled");
                return NULL;
        }
        for (guint i = 0; i < c->s->vms->len; i++) {
                Vm *vm = c->s->vms->pdata[i];

                if (g_strcmp0(c->path, vm_port_path(vm)) == 0 || g_strcmp0(c->path, vm_monitor_path(vm)) == 0)
                        return vm_connect(vm, c->path, error);
        }
        g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "no such socket");
        return NULL;
}

static gboolean on_connect(gpointer user)
{
        struct connecting *c = user;
        g_autoptr(GError) error = NULL;
        Transport *transport = connect_now(c, &error);

        c->done(transport, error, c->user);
        return G_SOURCE_REMOVE;
}

static void run_later(struct host_surroundings *s, guint delay_us, GSourceFunc func, gpointer user,
                      GDestroyNotify notify)
{
        g_autoptr(GSource) source = world_timer_new(s->w, delay_us);

        g_source_set_callback(source, func, user, notify);
        g_source_attach(source, s->env.context);
}

static void connect_unix(gpointer self, const char *name, const char *path, GCancellable *cancellable,
                         host_connected_func done, gpointer user)
{
        struct host_surroundings *s = self;
        struct connecting *c = g_new0(struct connecting, 1);

        *c = (struct connecting){s, g_strdup(path), cancellable ? g_object_ref(cancellable) : NULL, done,
                                 user};
        run_later(s, world_between(s->w, 10, 300), on_connect, c, connecting_free);
}

static HostListener *listen_tls(gpointer self, const char *endpoint, const TlsIdentity *id,
                                tls_accept_func accept, host_accepted_func accepted, gpointer user,
                                GError **error)
{
        g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED, "there is no network");
        return NULL;
}

static void listener_free(gpointer self, HostListener *l)
{
}

static const struct host_channel_ops channel_ops = {connect_unix, listen_tls, listener_free};

/* --- the state directory's small files: the parts that run here have none --- */

static GBytes *disk_read(gpointer self, const char *name, gsize max_bytes, GError **error)
{
        moult_error_errno(error, ENOENT, "reading %s", name);
        return NULL;
}

static gboolean disk_write(gpointer self, const char *name, const void *data, gsize len, mode_t mode,
                           GError **error)
{
        return moult_error_errno(error, EROFS, "writing %s", name);
}

static gboolean disk_remove(gpointer self, const char *name, GError **error)
{
        return TRUE;
}

static const struct host_disk_ops disk_ops = {disk_read, disk_write, disk_remove, NULL};

/* --- the store --- */

static int store_create(gpointer self, const char *temp_name, GError **error)
{
        moult_error_errno(error, EROFS, "making %s", temp_name);
        return -1;
}

static gboolean store_seal(gpointer self, const char *temp_name, int fd, const char *name, GError **error)
{
        return moult_error_errno(error, EROFS, "sealing %s", name);
}

static int store_open(gpointer self, const char *name, GError **error)
{
        struct host_surroundings *s = self;
        guint release = vault_find_file(name);
        int fd = release && !s->broken ? vault_open(s->vault, release, s->manner) : -1;

        if (fd < 0)
                moult_error_errno(error, release ? EIO : ENOENT, "opening the pack %s", name);
        return fd;
}

static gboolean store_remove(gpointer self, const char *name, GError **error)
{
        struct host_surroundings *s = self;

        world_fail(s->w, "the pack %s was removed from the store", name);
        return TRUE;
}

static GStrv store_list(gpointer self, GError **error)
{
        g_autoptr(GStrvBuilder) names = g_strv_builder_new();

        for (guint r = 1; r <= VAULT_RELEASES; r++)
                g_strv_builder_add(names, vault_file(r));
        return g_strv_builder_end(names);
}

static char *store_path(gpointer self, const char *name)
{
        return g_strdup(name); /* as QEMU is told it */
}

static const struct host_store_ops store_ops = {store_create, store_seal, store_open,
                                                store_remove, store_list, store_path};

/* --- worker threads: one after the other, each after some time --- */

struct work {
        host_work_func func;
        gpointer data;
        GCancellable *cancellable;
        host_work_done done;
        gpointer user;
};

static gboolean on_work(gpointer user)
{
        struct work *w = user;
        g_autoptr(GError) error = NULL;
        gpointer result = w->func(w->data, w->cancellable, &error);

        w->done(result, error, w->user);
        return G_SOURCE_REMOVE;
}

static void work_free(gpointer p)
{
        struct work *w = p;

        g_clear_object(&w->cancellable);
        g_free(w);
}

static void worker_run(gpointer self, host_work_func func, gpointer data, GCancellable *cancellable,
                       host_work_done done, gpointer user)
{
        struct host_surroundings *s = self;
        struct work *w = g_new(struct work, 1);

        *w = (struct work){func, data, cancellable ? g_object_ref(cancellable) : NULL, done, user};
        run_later(s, world_between(s->w, 20, 3000), on_work, w, work_free);
}

static const struct host_worker_ops worker_ops = {worker_run};

void host_env_fill(struct host_surroundings *s, const char *vfs)
{
        s->env = (struct host_env){.self = s,
                                   .context = world_context(s->w),
                                   .clock = &clock_ops,
                                   .random = &random_ops,
                                   .channel = &channel_ops,
                                   .disk = &disk_ops,
                                   .store = &store_ops,
                                   .worker = &worker_ops,
                                   .session = &session_ops,
                                   .catalogue_path = "catalogue.db",
                                   .sqlite_vfs = vfs};
}
