/* tests/support/agent_rig.c - puts an agent, a host and a tree together. */
#include "tests/support/agent_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "shm/keys.h"
#include "shm/pack_writer.h"

AgentRig *agent_rig_new(void)
{
        static const char *const dirs[] = {"root/usr/lib", "root/etc", "root/tmp", "state", "trust",
                                           "pci",          "run",      "block",    "dev"};
        AgentRig *r = g_new0(AgentRig, 1);

        r->dir = tempdir_new();
        for (size_t i = 0; i < G_N_ELEMENTS(dirs); i++) {
                g_autofree char *path = tempdir_path(r->dir, dirs[i]);
                g_assert(g_mkdir_with_parents(path, 0755) == 0);
        }
        g_autofree char *key = tempdir_path(r->dir, "release.key");
        g_autofree char *pub = tempdir_path(r->dir, "trust/release.pub");
        g_assert(signing_key_create(key, pub, NULL));
        g_autofree char *socket = tempdir_path(r->dir, "host.sock");
        r->host = fake_host_new(socket);
        r->options = g_ptr_array_new_with_free_func(g_free);
        agent_rig_next_push(r);
        return r;
}

void agent_rig_free(AgentRig *r)
{
        if (!r)
                return;
        agent_free(r->agent);
        if (r->pid)
                agent_rig_reap(r, SIGKILL);
        fake_host_free(r->host);
        g_clear_error(&r->failure);
        g_ptr_array_unref(r->options);
        tempdir_free(r->dir);
        g_free(r);
}

void agent_rig_next_push(AgentRig *r)
{
        r->push_id[0]++;
        memset(r->push_id + 1, 0x5a, sizeof r->push_id - 1);
}

void agent_rig_option(AgentRig *r, const char *option)
{
        g_ptr_array_add(r->options, g_strdup(option));
}

static void on_ready(gpointer user)
{
        ((AgentRig *)user)->ready = TRUE;
}

static void on_failed(const GError *error, gpointer user)
{
        ((AgentRig *)user)->failure = g_error_copy(error);
}

static void on_stopped(gpointer user)
{
        ((AgentRig *)user)->stopped = TRUE;
}

/* NULL-terminated. */
static GPtrArray *make_argv(AgentRig *r, const char *program)
{
        const char *base = r->dir->path;
        GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);

        if (program)
                g_ptr_array_add(argv, g_strdup(program));
        g_ptr_array_add(argv, g_strdup("run"));
        g_ptr_array_add(argv, g_strdup_printf("--root=%s/root", base));
        g_ptr_array_add(argv, g_strdup_printf("--state=%s/state", base));
        g_ptr_array_add(argv, g_strdup_printf("--trust=%s/trust", base));
        g_ptr_array_add(argv, g_strdup_printf("--channel=unix:%s/host.sock", base));
        g_ptr_array_add(argv, g_strdup_printf("--socket=%s/run/agent.sock", base));
        g_ptr_array_add(argv, g_strdup_printf("--pci=%s/pci", base));
        g_ptr_array_add(argv, g_strdup_printf("--block=%s/block", base));
        g_ptr_array_add(argv, g_strdup_printf("--dev=%s/dev", base));
        g_ptr_array_add(argv, g_strdup("--log-level=warning"));
        g_ptr_array_add(argv, g_strdup("--idle-io=false"));
        for (guint i = 0; i < r->options->len; i++)
                g_ptr_array_add(argv, g_strdup(r->options->pdata[i]));
        g_ptr_array_add(argv, NULL);
        return argv;
}

static struct agent_config *make_config(AgentRig *r)
{
        g_autoptr(GPtrArray) argv = make_argv(r, NULL);
        g_autoptr(GError) error = NULL;
        int argc = (int)argv->len - 1;
        g_autofree char **args = g_memdup2(argv->pdata, sizeof(char *) * argv->len);
        struct agent_config *c = agent_config_load(&argc, &args, "/nonexistent", &error);

        g_assert_no_error(error);
        return c;
}

void agent_rig_spawn(AgentRig *r, const char *program, const char *fault)
{
        g_autoptr(GPtrArray) argv = make_argv(r, program);
        g_auto(GStrv) environment = g_get_environ();
        g_autoptr(GError) error = NULL;

        if (fault)
                environment = g_environ_setenv(environment, "MOULT_FAULT", fault, TRUE);
        g_spawn_async(NULL, (char **)argv->pdata, environment, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &r->pid,
                      &error);
        g_assert_no_error(error);
}

int agent_rig_reap(AgentRig *r, int signal)
{
        int status;

        if (signal)
                kill(r->pid, signal);
        while (waitpid(r->pid, &status, 0) < 0)
                g_assert(errno == EINTR);
        r->pid = 0;
        return status;
}

void agent_rig_start(AgentRig *r)
{
        static const struct agent_events events = {on_ready, on_failed, on_stopped, NULL};
        g_autoptr(GError) error = NULL;

        r->ready = r->stopped = FALSE;
        r->agent = agent_new(make_config(r), NULL, &events, r, &error);
        g_assert_no_error(error);
        while (!r->ready && !r->failure)
                g_main_context_iteration(NULL, TRUE);
        g_assert_no_error(r->failure);
        if (r->host->listener >= 0)
                fake_host_wait_established(r->host);
}

void agent_rig_stop(AgentRig *r)
{
        agent_stop(r->agent);
        while (!r->stopped)
                g_main_context_iteration(NULL, TRUE);
        g_clear_pointer(&r->agent, agent_free);
}

static char *root_path(AgentRig *r, const char *path)
{
        return g_build_filename(r->dir->path, "root", path, NULL);
}

char *agent_rig_read(AgentRig *r, const char *path)
{
        g_autofree char *full = root_path(r, path);
        char *text = NULL;

        return g_file_get_contents(full, &text, NULL, NULL) ? text : g_strdup("");
}

void agent_rig_write(AgentRig *r, const char *path, const char *content)
{
        g_autofree char *full = root_path(r, path);

        g_assert(g_file_set_contents(full, content, -1, NULL));
}

static void add_file(PackWriter *w, const char *path, const void *data, gsize len)
{
        scoped_fd int fd = memfd_create("content", MFD_CLOEXEC);
        Moult__Entry e = MOULT__ENTRY__INIT;
        g_autoptr(GError) error = NULL;

        g_assert(fd_write_all(fd, data, len, "content", NULL));
        e.path = message_bytes(path);
        e.type = MOULT__ENTRY_TYPE__ENTRY_FILE;
        e.mode = 0644;
        e.uid = geteuid();
        e.gid = getegid();
        e.mtime_s = 1700000000;
        pack_writer_add_entry(w, &e, fd, NULL, &error);
        g_assert_no_error(error);
}

static void add_filler(PackWriter *w, gsize size)
{
        g_autofree guint32 *data = g_malloc(size + 4);
        guint32 x = 12345;

        for (gsize i = 0; i < size / 4 + 1; i++)
                data[i] = x = x * 1664525u + 1013904223u;
        if (size > 0)
                add_file(w, "usr/lib/filler", data, size);
}

char *agent_rig_pack_path(AgentRig *r)
{
        return tempdir_path(r->dir, "release.moult");
}

void agent_rig_release(AgentRig *r, const char *version, gsize filler_size, ...)
{
        const struct pack_writer_options options = {
                .name = "test",
                .version = version,
                .created_unix_s = 1700000000,
                .zstd_level = 1,
        };
        g_autofree char *path = agent_rig_pack_path(r), *key_path = tempdir_path(r->dir, "release.key");
        g_autoptr(GError) error = NULL;
        g_autoptr(SigningKey) key = signing_key_load(key_path, &error);
        g_autoptr(PackWriter) w = NULL;
        guint8 digest[32];
        const char *name;
        va_list ap;

        g_assert_no_error(error);
        unlink(path);
        w = pack_writer_new(path, &options, &error);
        g_assert_no_error(error);
        va_start(ap, filler_size);
        while ((name = va_arg(ap, const char *))) {
                const char *content = va_arg(ap, const char *);
                add_file(w, name, content, strlen(content));
        }
        va_end(ap);
        add_filler(w, filler_size);
        pack_writer_finish(w, &key, 1, digest, &error);
        g_assert_no_error(error);
        fake_host_serve_file(r->host, path, digest);
}

static void put(const char *dir, const char *name, const void *data, gsize len)
{
        g_autofree char *path = g_build_filename(dir, name, NULL);

        g_assert(g_file_set_contents(path, data, (gssize)len, NULL));
}

/* What the window shows. */
static guint8 *padded_pack(AgentRig *r, gsize *ret_size)
{
        gsize size = 4096;
        guint8 *bar;

        while (size < r->host->pack_size)
                size *= 2;
        bar = g_malloc0(size);
        memcpy(bar, r->host->pack, r->host->pack_size);
        *ret_size = size;
        return bar;
}

char *agent_rig_plug_pmem(AgentRig *r)
{
        g_autofree char *sysfs = tempdir_path(r->dir, "block/pmem0"), *dev = tempdir_path(r->dir, "dev");
        gsize size;
        g_autofree guint8 *content = padded_pack(r, &size);

        g_assert(g_mkdir_with_parents(sysfs, 0755) == 0);
        put(dev, "pmem0", content, size);
        put(sysfs, "dev", "0:0\n", 4); /* of a file that is no device */
        return g_build_filename(dev, "pmem0", NULL);
}

char *agent_rig_plug(AgentRig *r)
{
        g_autofree char *device = tempdir_path(r->dir, "pci/0000:01:00.0");
        gsize size;
        guint8 *bar = padded_pack(r, &size);

        g_assert(g_mkdir_with_parents(device, 0755) == 0);
        put(device, "vendor", "0x1af4\n", 7);
        put(device, "device", "0x1110\n", 7);
        put(device, "enable", "0\n", 2);
        put(device, "resource2", bar, size);
        g_free(bar);
        return g_build_filename(device, "resource2", NULL);
}
