/* guest-agent/upgrade/fence.c - a cgroup around one child and all that it starts, so that all of it can be
 * killed. */
#include "guest-agent/upgrade/fence.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "common/fd.h"

/* The kernel needs a moment to take killed processes out of their cgroup. */
#define EMPTY_WITHIN_MS 2000

struct Fence {
        char *name;
        int parent, procs, kill, events;
};

/* Our own cgroup2, "/a/b", or NULL. */
static char *own_cgroup(void)
{
        g_autofree char *text = NULL;
        if (!g_file_get_contents("/proc/self/cgroup", &text, NULL, NULL))
                return NULL;
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        for (int i = 0; lines[i] != NULL; i++)
                if (g_str_has_prefix(lines[i], "0::/") && strstr(lines[i], "/..") == NULL)
                        return g_strdup(lines[i] + strlen("0::"));
        return NULL;
}

static int open_parent(void)
{
        static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
        g_autofree char *own = own_cgroup();
        for (gsize i = 0; own != NULL && i < G_N_ELEMENTS(mounts); i++) {
                g_autofree char *path = g_strconcat(mounts[i], own, NULL);
                struct statfs fs;
                if (statfs(path, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
                        return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
        return -1;
}

static int open_in(const Fence *f, const char *file, int flags)
{
        g_autofree char *path = g_strdup_printf("%s/%s", f->name, file);
        return openat(f->parent, path, flags | O_CLOEXEC);
}

Fence *fence_new(void)
{
        g_autoptr(Fence) f = g_new0(Fence, 1);
        f->procs = f->kill = f->events = -1;
        f->parent = open_parent();
        if (f->parent < 0)
                return NULL;
        for (unsigned n = 0; f->name == NULL; n++) {
                g_autofree char *name = g_strdup_printf("moult-hook.%d.%u", (int)getpid(), n);
                if (mkdirat(f->parent, name, 0755) == 0)
                        f->name = g_steal_pointer(&name);
                else if (errno != EEXIST)
                        return NULL;
        }
        f->procs = open_in(f, "cgroup.procs", O_WRONLY);
        f->kill = open_in(f, "cgroup.kill", O_WRONLY);
        f->events = open_in(f, "cgroup.events", O_RDONLY);
        return f->procs >= 0 && f->kill >= 0 && f->events >= 0 ? g_steal_pointer(&f) : NULL;
}

static gboolean is_empty(const Fence *f)
{
        char text[256];
        ssize_t n = pread(f->events, text, sizeof text - 1, 0);
        text[MAX(n, 0)] = '\0';
        return n <= 0 || strstr(text, "populated 0") != NULL;
}

void fence_free(Fence *f)
{
        if (f == NULL)
                return;
        gint64 deadline_us = g_get_monotonic_time() + EMPTY_WITHIN_MS * 1000;
        while (f->events >= 0 && !is_empty(f) && g_get_monotonic_time() < deadline_us) {
                struct pollfd changed = {.fd = f->events, .events = POLLPRI};
                poll(&changed, 1, (int)((deadline_us - g_get_monotonic_time()) / 1000) + 1);
        }
        /* What cannot be killed, or was left alone, keeps its cgroup. */
        if (f->name != NULL)
                unlinkat(f->parent, f->name, AT_REMOVEDIR);
        scoped_fd_close(&f->procs);
        scoped_fd_close(&f->kill);
        scoped_fd_close(&f->events);
        scoped_fd_close(&f->parent);
        g_free(f->name);
        g_free(f);
}

static void put(int fd, const char *text, size_t len)
{
        ssize_t n = write(fd, text, len);
        (void)n; /* there is the process group as well */
}

void fence_enter(const Fence *f)
{
        if (f != NULL)
                put(f->procs, "0", 1);
}

void fence_kill(const Fence *f)
{
        if (f != NULL)
                put(f->kill, "1", 1);
}

int fence_kill_fd(const Fence *f)
{
        return f != NULL ? f->kill : -1;
}
