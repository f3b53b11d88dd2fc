/* fuse-overlay/targetfs/supervise.c - a server that dies is replaced. */
#include "fuse-overlay/targetfs/supervise.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fd.h"
#include "fuse-overlay/merge.h"
#include "fuse-overlay/union_mount.h"

/* A server that lived so long did not die of what the one before it died of. */
#define LIVED_S      60
#define TRIES_MAX    10u
#define PAUSE_MIN_MS 50u
#define PAUSE_MAX_MS 10000u

struct supervisor {
        const struct supervise_config *config;
        int status_fd; /* in the first server until it is ready; -1 */
};

static void tell_ready(gpointer user)
{
        struct supervisor *s = user;

        if (s->status_fd >= 0)
                fd_write_all(s->status_fd, "ready\n", strlen("ready\n"), "status", NULL);
        scoped_fd_close(&s->status_fd);
}

/* In the child. */
static G_NORETURN void be_server(struct supervisor *s, int fuse_fd)
{
        g_autoptr(GError) error = NULL;
        struct serve_config config = s->config->serve;

        prctl(PR_SET_NAME, "moult-targetfs");
        config.ready = tell_ready;
        config.user = s;
        if (serve(&config, fuse_fd, &error))
                _exit(0);
        event_log(EVENT_ERROR, "targetfs-failed", error->message, "merge", config.merge.path, NULL);
        if (s->status_fd >= 0)
                fd_write_all(s->status_fd, error->message, strlen(error->message), "status", NULL);
        _exit(1);
}

/* The child's pid, or -1. Takes over @fuse_fd: as long as we had it open, a dead server's mount would wait
 * for an answer instead of giving an error. @mount_fd (-1: none) stays ours alone: a server that had it would
 * keep its own mount. */
static pid_t start_server(struct supervisor *s, int fuse_fd, int mount_fd)
{
        pid_t pid = fork();

        if (pid == 0) {
                if (mount_fd >= 0)
                        close(mount_fd);
                be_server(s, fuse_fd);
        }
        close(fuse_fd);
        scoped_fd_close(&s->status_fd);
        return pid;
}

/* True if it ended because its mount is gone. */
static gboolean wait_server(pid_t pid, char **ret_how)
{
        int status;

        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR) {
                        *ret_how = g_strdup("it cannot be waited for");
                        return FALSE;
                }
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return TRUE;
        *ret_how = WIFSIGNALED(status) ? g_strdup_printf("signal %d", WTERMSIG(status))
                                       : g_strdup_printf("exit code %d", WEXITSTATUS(status));
        return FALSE;
}

static gint64 seconds_now(void)
{
        return g_get_monotonic_time() / G_USEC_PER_SEC;
}

static void pause_ms(unsigned ms)
{
        const struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

static gboolean switch_to(const struct supervise_config *c, int mount, GError **error)
{
        g_autoptr(Merger) m = merger_new(&c->merge_config, error);
        return m != NULL && merger_revive(m, c->serve.merge.path, c->tag, mount, error);
}

/* A new server on a new mount in the place of the dead one: its pid, or -1 with @error. */
static pid_t replace_server(struct supervisor *s, GError **error)
{
        const struct supervise_config *c = s->config;
        mode_t type = c->serve.merge.reach == MOULT__TARGET__REACH__REACH_TREE ? S_IFDIR : S_IFREG;
        int fuse_fd = -1;
        scoped_fd int mount = union_mount_new(c->tag, c->attr, type, &fuse_fd, error);
        if (mount < 0)
                return -1;
        pid_t pid = start_server(s, fuse_fd, mount);
        if (pid < 0) {
                moult_error_errno(error, errno, "starting a server");
                return -1;
        }
        if (switch_to(c, mount, error))
                return pid;
        /* The new mount goes with its descriptor, and its server with it. */
        scoped_fd_close(&mount);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        return -1;
}

/* TRUE: there is a new server; FALSE: the merge is not ours any more, or all tries are spent. */
static gboolean try_again(struct supervisor *s, unsigned *tries, pid_t *pid)
{
        const char *merge = s->config->serve.merge.path;

        for (; *tries < TRIES_MAX; ++*tries) {
                g_autoptr(GError) error = NULL;
                if (*tries > 0)
                        pause_ms(MIN(PAUSE_MIN_MS << MIN(*tries, 10u), PAUSE_MAX_MS));
                *pid = replace_server(s, &error);
                if (*pid > 0) {
                        ++*tries;
                        event_log(EVENT_NOTICE, "targetfs-restarted", "the merge is served again", "merge",
                                  merge, NULL);
                        return TRUE;
                }
                if (g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                        return FALSE; /* replaced meanwhile, or never switched in */
                event_log(EVENT_ERROR, "targetfs-not-restarted", error->message, "merge", merge, NULL);
        }
        event_log(EVENT_ERROR, "targetfs-given-up",
                  "the server died again and again: the merge gives errors until moult-agent makes it anew",
                  "merge", merge, NULL);
        return FALSE;
}

static G_NORETURN void be_supervisor(struct supervisor *s, int fuse_fd)
{
        unsigned tries = 0;
        pid_t pid = start_server(s, fuse_fd, /* mount_fd= */ -1);

        prctl(PR_SET_NAME, "moult-targetfs+");
        while (pid > 0) {
                g_autofree char *how = NULL;
                gint64 since = seconds_now();
                if (wait_server(pid, &how))
                        _exit(0);
                event_log(EVENT_ERROR, "targetfs-died", "a server of a merge died: it is replaced", "merge",
                          s->config->serve.merge.path, "how", how, NULL);
                if (seconds_now() - since >= LIVED_S)
                        tries = 0;
                if (!try_again(s, &tries, &pid))
                        break;
        }
        _exit(1);
}

/* Files are served until the mount is gone, not until somebody wants us to stop: at shutdown, too. */
static void leave_terminal(void)
{
        static const int ignored[] = {SIGHUP, SIGINT, SIGTERM, SIGPIPE, SIGQUIT, SIGUSR1, SIGUSR2};

        setsid();
        for (gsize i = 0; i < G_N_ELEMENTS(ignored); i++)
                signal(ignored[i], SIG_IGN);
        signal(SIGCHLD, SIG_DFL);
        if (chdir("/") < 0)
                event_log(EVENT_WARNING, "targetfs-failed", "the working directory stays what it was", NULL);
}

gboolean supervise(const struct supervise_config *config, int fuse_fd, GError **error)
{
        struct supervisor s = {config, config->status_fd};
        pid_t pid = fork();

        if (pid == 0) {
                leave_terminal();
                be_supervisor(&s, fuse_fd);
        }
        close(fuse_fd);
        scoped_fd_close(&s.status_fd);
        return pid > 0 || moult_error_errno(error, errno, "starting the server's supervisor");
}
