/* guest-agent/upgrade/guard.c - kills a child and all that it started if we die before it ends. */
#include "guest-agent/upgrade/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"

#define FDS_MAX 4096

struct Guard {
        pid_t pid;
        int pipe;
};

/* In the guard, a fork of a process with threads: only async-signal-safe calls. */
static _Noreturn void watch(int pipe_fd, int kill_fd)
{
        sigset_t all;
        pid_t said, group = 0;
        ssize_t n;

        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        setsid(); /* not in the group that a terminal interrupts */
        /* Away from where they go, then nothing of the agent's is held but these: its locks least of all. */
        int from = fcntl(pipe_fd, F_DUPFD, 10), to = fcntl(kill_fd, F_DUPFD, 10);
        dup2(from, 0);
        if (to >= 0)
                dup2(to, 1);
        else
                close(1);
        if (syscall(SYS_close_range, 2, ~0U, 0) < 0) /* before Linux 5.9 */
                for (int fd = 2; fd < FDS_MAX; fd++)
                        close(fd);
        while ((n = read(0, &said, sizeof said)) != 0)
                if (n == sizeof said)
                        group = said;
        if (to >= 0)
                n = write(1, "1", 1);
        if (group > 1)
                kill(-group, SIGKILL);
        _exit(0);
}

Guard *guard_new(const Fence *fence)
{
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
                return NULL;
        scoped_fd int read_end = ends[0], write_end = ends[1];
        pid_t pid = fork();
        if (pid < 0)
                return NULL;
        if (pid == 0)
                watch(read_end, fence_kill_fd(fence));
        Guard *g = g_new(Guard, 1);
        *g = (Guard){pid, g_steal_fd(&write_end)};
        return g;
}

void guard_enter(const Guard *g)
{
        pid_t group = getpgrp();
        ssize_t n = g != NULL ? write(g->pipe, &group, sizeof group) : 0;
        (void)n; /* there is the fence, and the parent-death signal */
}

void guard_free(Guard *g)
{
        if (g == NULL)
                return;
        kill(g->pid, SIGKILL); /* before its pipe ends */
        while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
                ;
        close(g->pipe);
        g_free(g);
}
