/* guest-agent/freeze_start.c - starts the process that holds a freeze. */
#include "guest-agent/freeze_start.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "guest-agent/freeze_record.h"

#define SELF "/proc/self/exe"

gboolean freeze_start_has_scope(void)
{
        g_autofree char *tool = g_find_program_in_path("systemd-run");

        return tool && access("/run/systemd/system", F_OK) == 0;
}

/* By its name where that still leads to the program which runs here; else by what the kernel holds of it. */
static char *own_path(void)
{
        g_autofree char *path = g_file_read_link(SELF, NULL);
        struct stat self, there;

        if (path && stat(SELF, &self) == 0 && stat(path, &there) == 0 && self.st_dev == there.st_dev &&
            self.st_ino == there.st_ino)
                return g_steal_pointer(&path);
        return g_strdup_printf("/proc/%d/exe", (int)getpid());
}

/* In a scope it is told to end at a shutdown, as a service is, and then thaws. */
static void add_scope(GPtrArray *argv)
{
        static const char *const words[] = {"systemd-run", "--scope",           "--quiet",
                                            "--collect",   "--no-ask-password", "--slice=system.slice"};

        for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
                g_ptr_array_add(argv, g_strdup(words[i]));
        g_ptr_array_add(argv,
                        g_strdup_printf("--unit=moult-freezer-%" G_GINT64_FORMAT, g_get_monotonic_time()));
        g_ptr_array_add(argv, g_strdup("--"));
}

static void on_end(GPid pid, gint status, gpointer user)
{
        g_spawn_close_pid(pid);
}

int freeze_start(const char *directory, const char *mountinfo, const guint8 *id, guint32 lease_ms,
                 gboolean scope, GError **error)
{
        g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GString) name = g_string_new("--id=");
        g_auto(GStrv) environment = g_environ_unsetenv(g_get_environ(), "NOTIFY_SOCKET");
        const gint as = 3;
        int ends[2];
        GPid pid;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
                moult_error_errno(error, errno, "making a socket for the process that holds the freeze");
                return -1;
        }
        scoped_fd int ours = ends[0], theirs = ends[1];
        for (guint i = 0; i < FREEZE_ID_SIZE; i++)
                g_string_append_printf(name, "%02x", id[i]);
        if (scope)
                add_scope(argv);
        g_ptr_array_add(argv, own_path());
        g_ptr_array_add(argv, g_strdup("freezer"));
        g_ptr_array_add(argv, g_strdup_printf("--directory=%s", directory));
        g_ptr_array_add(argv, g_strdup_printf("--mountinfo=%s", mountinfo));
        g_ptr_array_add(argv, g_strdup(name->str));
        g_ptr_array_add(argv, g_strdup_printf("--lease-ms=%u", lease_ms));
        g_ptr_array_add(argv, g_strdup_printf("--agent=%d", as));
        g_ptr_array_add(argv, NULL);
        if (!g_spawn_async_with_pipes_and_fds(
                    "/", (const char *const *)argv->pdata, (const char *const *)environment,
                    G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL,
                    -1, -1, -1, &theirs, &as, 1, &pid, NULL, NULL, NULL, error)) {
                g_prefix_error(error, "starting the process that holds the freeze: ");
                return -1;
        }
        g_child_watch_add(pid, on_end, NULL);
        return g_steal_fd(&ours);
}
