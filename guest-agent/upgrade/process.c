/* guest-agent/upgrade/process.c - runs one child with a time limit, its output bounded, and leaves nothing of
 * it behind.
 *
 * A private main context is run until the child has ended or its time is over. We do not wait for the end of
 * its output: a grandchild that left the process group may hold the pipe for ever. A child that ended is a
 * zombie until everybody else is killed: so long its number, which is that of the group, is nobody else's. */
#include "guest-agent/upgrade/process.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "guest-agent/upgrade/fence.h"
#include "guest-agent/upgrade/guard.h"
#include "proto/limits.h"

#define KILL_WITHIN_MS 10000u
/* The kernel needs a moment to end what was killed, and init to take it away. */
#define GROUP_GONE_WITHIN_MS 2000u
/* Where there are no process descriptors (before Linux 5.3), and for a process group, whose end nothing
 * tells. */
#define LOOK_EVERY_MS 20u

struct running {
        const struct process_request *request;
        char *proc, *dev; /* below request->root, if there is one */
        GMainLoop *loop;
        GMainContext *context;
        GString *output; /* the tail of it */
        int read_end;    /* of the pipe, or the memory file that is the output */
        pid_t pid;       /* of the child, and of its group */
        Fence *fence;
        Guard *guard;
        gboolean ended, timed_out, unkillable;
        siginfo_t end;
};

void process_result_clear(struct process_result *r)
{
        g_clear_pointer(&r->output, g_free);
}

#define EXIT_NO_ROOT 126

/* In a mount namespace of the child's own, so that nothing of it is left. Where the tree has no /proc, its
 * script cannot be found afterwards; one without /dev can do without. */
static void enter_root(const struct running *r)
{
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("proc", r->proc, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
                _exit(EXIT_NO_ROOT);
        mount("/dev", r->dev, NULL, MS_BIND | MS_REC, NULL);
        if (chroot(r->request->root) < 0 || chdir("/") < 0)
                _exit(EXIT_NO_ROOT);
}

/* In the child, between fork and exec: only async-signal-safe calls. */
static void child_setup(gpointer user)
{
        const struct running *r = user;
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* an agent that is killed leaves no hook behind */
        fence_enter(r->fence);
        guard_enter(r->guard);
        if (r->request->root)
                enter_root(r);
}

static void kill_all(struct running *r)
{
        if (fault_skip("process-kill"))
                return;
        fence_kill(r->fence);
        kill(-r->pid, SIGKILL);
}

/* ---- output ---- */

static void output_add(struct running *r, const char *data, gsize len)
{
        g_string_append_len(r->output, data, (gssize)len);
        if (r->output->len > LIMIT_HOOK_OUTPUT)
                g_string_erase(r->output, 0, (gssize)(r->output->len - LIMIT_HOOK_OUTPUT));
}

/* Reads what is there now. FALSE at the end. */
static gboolean drain(struct running *r)
{
        char buf[4096];
        /* Bounded: a child that writes without end must not keep us from its time limit. */
        for (int i = 0; i < 64; i++) {
                ssize_t n = read(r->read_end, buf, sizeof buf);
                if (n <= 0)
                        return n < 0;
                output_add(r, buf, (gsize)n);
        }
        return TRUE;
}

static gboolean on_output(gint fd, GIOCondition condition, gpointer user)
{
        return drain(user) ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

/* What a daemon still writes goes nowhere from now on: its descriptor stays good, so it does not die of a
 * pipe without a reader, and the memory file does not grow. */
static void read_memory(struct running *r)
{
        off_t len = lseek(r->read_end, 0, SEEK_END);
        g_autofree char *tail = g_malloc(LIMIT_HOOK_OUTPUT);
        ssize_t n = pread(r->read_end, tail, LIMIT_HOOK_OUTPUT, MAX(len - (off_t)LIMIT_HOOK_OUTPUT, 0));
        output_add(r, tail, (gsize)MAX(n, 0));
        if (ftruncate(r->read_end, 0) == 0)
                fcntl(r->read_end, F_ADD_SEALS, F_SEAL_GROW);
}

/* *ret_write: the child's stdout and stderr. */
static gboolean open_output(struct running *r, int *ret_write, GError **error)
{
        int ends[2];
        if (r->request->leaves_daemons) {
                r->read_end = memfd_create("moult-output", MFD_CLOEXEC | MFD_ALLOW_SEALING);
                *ret_write = r->read_end >= 0 ? fcntl(r->read_end, F_DUPFD_CLOEXEC, 0) : -1;
                if (*ret_write >= 0 && fcntl(*ret_write, F_SETFL, O_APPEND) == 0)
                        return TRUE;
                return moult_error_errno(error, errno, "making room for output");
        }
        if (pipe2(ends, O_CLOEXEC) < 0)
                return moult_error_errno(error, errno, "making a pipe");
        r->read_end = ends[0];
        *ret_write = ends[1];
        return fcntl(r->read_end, F_SETFL, O_NONBLOCK) == 0
                       ? TRUE
                       : moult_error_errno(error, errno, "setting up a pipe");
}

/* ---- the child ---- */

static gboolean spawn(struct running *r, GError **error)
{
        const struct process_request *q = r->request;
        const gint script = q->script_fd, as = 3;
        scoped_fd int out = -1;
        if (!open_output(r, &out, error))
                return FALSE;
        r->fence = q->leaves_daemons ? NULL : fence_new();
        r->guard = guard_new(r->fence);
        return g_spawn_async_with_pipes_and_fds(
                "/", q->argv, q->environment, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH, child_setup, r,
                -1, out, out, &script, &as, script >= 0 ? 1 : 0, &r->pid, NULL, NULL, NULL, error);
}

/* Leaves the zombie. */
static gboolean has_ended(struct running *r)
{
        r->end.si_pid = 0;
        r->ended =
                waitid(P_PID, (id_t)r->pid, &r->end, WEXITED | WNOHANG | WNOWAIT) == 0 && r->end.si_pid != 0;
        return r->ended;
}

static gboolean on_end(gint fd, GIOCondition condition, gpointer user)
{
        struct running *r = user;
        if (!has_ended(r))
                return G_SOURCE_CONTINUE;
        g_main_loop_quit(r->loop);
        return G_SOURCE_REMOVE;
}

static gboolean on_look(gpointer user)
{
        return on_end(-1, 0, user);
}

static gboolean on_unkillable(gpointer user)
{
        struct running *r = user;
        r->unkillable = !has_ended(r);
        g_main_loop_quit(r->loop);
        return G_SOURCE_REMOVE;
}

static GSource *attach(struct running *r, GSource *source, GSourceFunc call)
{
        g_source_set_callback(source, call, r, NULL);
        g_source_attach(source, r->context);
        return source;
}

static gboolean on_timeout(gpointer user)
{
        struct running *r = user;
        r->timed_out = TRUE;
        kill_all(r);
        g_autoptr(GSource) give_up =
                attach(r,
                       g_timeout_source_new(r->request->kill_within_ms ? r->request->kill_within_ms
                                                                       : KILL_WITHIN_MS),
                       on_unkillable);
        return G_SOURCE_REMOVE;
}

static void run_loop(struct running *r)
{
        scoped_fd int pidfd = (int)syscall(SYS_pidfd_open, r->pid, 0);
        g_autoptr(GSource) end = attach(
                r, pidfd >= 0 ? g_unix_fd_source_new(pidfd, G_IO_IN) : g_timeout_source_new(LOOK_EVERY_MS),
                pidfd >= 0 ? G_SOURCE_FUNC(on_end) : on_look);
        g_autoptr(GSource) timer = attach(r, g_timeout_source_new(r->request->timeout_ms), on_timeout);
        g_autoptr(GSource) output = NULL;
        if (!r->request->leaves_daemons)
                output = attach(r, g_unix_fd_source_new(r->read_end, G_IO_IN | G_IO_HUP),
                                G_SOURCE_FUNC(on_output));
        g_main_loop_run(r->loop);
        g_source_destroy(end);
        g_source_destroy(timer);
        if (output != NULL)
                g_source_destroy(output);
}

static void on_late_end(GPid pid, gint status, gpointer user)
{
        g_spawn_close_pid(pid);
}

/* A killed process may still be in the middle of a write: what comes after us must not meet it. Where there
 * is a fence, fence_free() waits in the same way. The number stays the group's as long as anybody is in it.
 */
static void wait_group_gone(pid_t group)
{
        gint64 deadline_us = g_get_monotonic_time() + (gint64)GROUP_GONE_WITHIN_MS * 1000;
        while (kill(-group, 0) == 0 && g_get_monotonic_time() < deadline_us)
                g_usleep((gulong)LOOK_EVERY_MS * 1000 / 4);
}

/* The child is a zombie, or cannot be killed. */
static void finish(struct running *r)
{
        gboolean ok = r->ended && !r->timed_out && r->end.si_code == CLD_EXITED && r->end.si_status == 0;
        if (r->request->leaves_daemons)
                read_memory(r);
        else
                drain(r);
        gboolean kills = !(ok && r->request->leaves_daemons);
        if (kills)
                kill_all(r);
        if (!r->ended)
                g_child_watch_add(r->pid, on_late_end,
                                  NULL); /* if it ever ends, the main loop takes it away */
        else
                while (waitid(P_PID, (id_t)r->pid, &r->end, WEXITED) < 0 && errno == EINTR)
                        ;
        if (kills && r->ended && r->fence == NULL)
                wait_group_gone(r->pid);
}

gboolean process_run(const struct process_request *request, struct process_result *ret, GError **error)
{
        g_autoptr(GMainContext) context = g_main_context_new();
        g_autoptr(GMainLoop) loop = g_main_loop_new(context, FALSE);
        g_autoptr(GString) output = g_string_new(NULL);
        struct running r = {
                .request = request, .loop = loop, .context = context, .output = output, .read_end = -1};
        if (request->root) {
                r.proc = g_build_filename(request->root, "proc", NULL);
                r.dev = g_build_filename(request->root, "dev", NULL);
        }
        gboolean ok = spawn(&r, error);

        if (ok) {
                run_loop(&r);
                finish(&r);
                gboolean exited = r.ended && r.end.si_code == CLD_EXITED;
                *ret = (struct process_result){
                        .timed_out = r.timed_out,
                        .unkillable = r.unkillable,
                        .exit_status = exited ? r.end.si_status : -1,
                        .signal = r.ended && !exited ? r.end.si_status : 0,
                        .output = g_utf8_make_valid(output->str, (gssize)output->len),
                };
        }
        guard_free(r.guard);
        fence_free(r.fence);
        g_free(r.proc);
        g_free(r.dev);
        scoped_fd_close(&r.read_end);
        return ok;
}

char *process_failure(const struct process_result *r, guint timeout_ms)
{
        if (r->unkillable)
                return g_strdup_printf(
                        "it did not end within %u.%03u s and cannot be killed: it waits in the kernel, "
                        "for a disk or a network file system perhaps (see dmesg)",
                        timeout_ms / 1000, timeout_ms % 1000);
        if (r->timed_out)
                return g_strdup_printf("it did not end within %u.%03u s and was killed", timeout_ms / 1000,
                                       timeout_ms % 1000);
        if (r->signal != 0)
                return g_strdup_printf("it was killed by signal %d", r->signal);
        return r->exit_status == 0 ? NULL : g_strdup_printf("exit status %d", r->exit_status);
}
