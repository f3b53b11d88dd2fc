/* fuse-overlay/merge_union.c - a merge that a process of ours serves: the mount is made here, moult-targetfs
 * is started for it.
 *
 * The server must outlive us. It forks into a session of its own by itself; out of our control group, which
 * systemd kills as a whole when the agent ends, it gets by a scope of its own. */
#include "fuse-overlay/merge_method.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "fuse-overlay/union_mount.h"

/* To read the target's record of millions of files and answer the kernel's first request. A server that hangs
 * must not hang an upgrade, too. */
#define READY_WITHIN_MS 60000
#define STATUS_MAX      4096u
#define LOG_BYTES_MAX   (1024 * 1024)

/* In the order of the child's descriptors, from FIRST_FD on. */
enum { FUSE, ORIGINAL, STATE, TARGET, STATUS, PACK, N_FDS };
#define FIRST_FD 3

/* --- the program --- */

char *merge_find_targetfs(void)
{
        g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
        g_autofree char *dir = self != NULL ? g_path_get_dirname(self) : NULL;
        g_autofree char *beside = dir != NULL ? g_build_filename(dir, "moult-targetfs", NULL) : NULL;
        if (beside != NULL && access(beside, X_OK) == 0)
                return g_steal_pointer(&beside);
        return g_strdup(MOULT_TARGETFS_PATH);
}

static char *program_path(const struct merge_config *config)
{
        return config->targetfs != NULL ? g_strdup(config->targetfs) : merge_find_targetfs();
}

/* Runs what follows in a control group of its own; NULL: not under systemd, or its tool is not there. Works
 * before D-Bus does: root's systemd-run asks systemd over its private socket. */
static void add_scope(GPtrArray *words, const char *tag)
{
        g_autofree char *tool = g_find_program_in_path("systemd-run");
        if (tool == NULL || access("/run/systemd/system", F_OK) < 0)
                return;
        g_ptr_array_add(words, g_steal_pointer(&tool));
        for (const char *const *w = (const char *const[]){"--scope", "--quiet", "--collect",
                                                          "--slice=system.slice", "--no-ask-password",
                                                          /* It stays until the mount is gone: at shutdown
                                                           * and in rescue mode, too. */
                                                          "--property=DefaultDependencies=no",
                                                          "--property=IgnoreOnIsolate=yes", NULL};
             *w != NULL; w++)
                g_ptr_array_add(words, g_strdup(*w));
        /* A number that no other server of this tag has: one of a mount that is still in use may run. */
        g_ptr_array_add(words, g_strdup_printf("--unit=moult-targetfs-%s-%" G_GINT64_FORMAT, tag,
                                               g_get_monotonic_time()));
        g_ptr_array_add(words, g_strdup("--"));
}

static void add_option(GPtrArray *words, const char *name, const char *value)
{
        if (value != NULL)
                g_ptr_array_add(words, g_strdup_printf("--%s=%s", name, value));
}

static GPtrArray *command_line(const struct merge_job *job, gboolean scope)
{
        static const char *const names[N_FDS] = {"fuse", "original", "state", "target", "status", "pack"};
        GPtrArray *words = g_ptr_array_new_with_free_func(g_free);

        if (scope)
                add_scope(words, job->tag);
        if (scope && words->len == 0)
                return words;
        g_ptr_array_add(words, program_path(job->config));
        for (int i = 0; i < (job->source != NULL ? N_FDS : PACK); i++)
                g_ptr_array_add(words, g_strdup_printf("--%s=%d", names[i], FIRST_FD + i));
        g_ptr_array_add(words, g_strdup_printf("--merge=%s", job->merge.path));
        add_option(words, "root", job->config->root);
        add_option(words, "state-dir", job->config->state_dir);
        add_option(words, "run-dir", job->config->run_dir);
        g_ptr_array_add(words, g_strdup_printf("--tag=%s", job->tag));
        g_ptr_array_add(words, g_strdup_printf("--attr=%u", job->attr));
        if (job->source != NULL) {
                add_option(words, "sysfs-pci", job->source->sysfs_pci);
                add_option(words, "sysfs-block", job->source->sysfs_block);
                add_option(words, "dev", job->source->dev);
                add_option(words, "socket", job->source->socket);
        }
        g_ptr_array_add(words, NULL);
        return words;
}

/* --- what it gets --- */

/* The record in a file of memory: the server needs nothing of the state directory that may change. */
static int target_memory(const Target *t, GError **error)
{
        g_autoptr(GBytes) bytes = target_serialise(t);
        scoped_fd int fd = memfd_create("moult-target", MFD_CLOEXEC);
        gsize len;
        const void *data = g_bytes_get_data(bytes, &len);

        if (fd < 0)
                moult_error_errno(error, errno, "making memory for the target's record");
        return fd >= 0 && fd_write_all(fd, data, len, "the target's record", error) ? g_steal_fd(&fd) : -1;
}

/* Where the server logs: our journal, else a file of its own, never the terminal or pipe of a command, which
 * would wait for it to be closed. */
static int log_fd(const struct merge_config *config, GError **error)
{
        if (g_log_writer_is_journald(STDERR_FILENO))
                return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, FIRST_FD);
        g_autofree char *path = g_build_filename(config->state_dir, "target", "targetfs.log", NULL);
        scoped_fd int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        struct stat st;
        if (fd < 0) {
                moult_error_errno(error, errno, "opening the log %s", path);
                return -1;
        }
        if (fstat(fd, &st) == 0 && st.st_size > LOG_BYTES_MAX && ftruncate(fd, 0) < 0) {
                moult_error_errno(error, errno, "emptying the log %s", path);
                return -1;
        }
        return g_steal_fd(&fd);
}

/* --- starting it --- */

static gboolean spawn(GPtrArray *words, const int fds[N_FDS], int n_fds, int log, GError **error)
{
        static const int targets[N_FDS] = {FIRST_FD + FUSE,   FIRST_FD + ORIGINAL, FIRST_FD + STATE,
                                           FIRST_FD + TARGET, FIRST_FD + STATUS,   FIRST_FD + PACK};
        GPid pid;
        int status;

        /* What it forks goes on; the process itself ends when everything is read and checked. */
        if (!g_spawn_async_with_pipes_and_fds("/", (const char *const *)words->pdata, NULL,
                                              G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL, NULL,
                                              NULL, -1, -1, log, fds, targets, (gsize)n_fds, &pid, NULL, NULL,
                                              NULL, error))
                return FALSE;
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return moult_error_errno(error, errno, "waiting for %s", (char *)words->pdata[0]);
        return g_spawn_check_wait_status(status, error);
}

/* "ready", or what it says instead. */
static gboolean wait_ready(int status_fd, GCancellable *cancellable, GError **error)
{
        char text[STATUS_MAX + 1];
        size_t len = 0;
        gint64 until = g_get_monotonic_time() + READY_WITHIN_MS * G_GINT64_CONSTANT(1000);

        while (len < STATUS_MAX) {
                GPollFD polls[2] = {{status_fd, G_IO_IN, 0}};
                gboolean watched = g_cancellable_make_pollfd(cancellable, &polls[1]);
                gint64 left = (until - g_get_monotonic_time()) / 1000;
                int r = left > 0 ? g_poll(polls, watched ? 2 : 1, (gint)left) : 0;
                if (watched)
                        g_cancellable_release_fd(cancellable);
                if (g_cancellable_set_error_if_cancelled(cancellable, error))
                        return FALSE;
                if (r == 0) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                                    "moult-targetfs did not answer within %d s", READY_WITHIN_MS / 1000);
                        return FALSE;
                }
                ssize_t n = read(status_fd, text + len, STATUS_MAX - len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                len += (size_t)n;
                text[len] = '\0';
                if (g_str_equal(text, "ready\n"))
                        return TRUE;
        }
        text[len] = '\0';
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "%s",
                    len > 0 ? text : "moult-targetfs died before it served anything");
        return FALSE;
}

static gboolean start_server(const struct merge_job *job, int fuse, GError **error)
{
        int pipe[2];
        scoped_fd int state = open(job->config->state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        scoped_fd int target = target_memory(job->target, error);
        scoped_fd int log = target >= 0 ? log_fd(job->config, error) : -1;
        if (log < 0)
                return FALSE;
        if (state < 0)
                return moult_error_errno(error, errno, "opening %s", job->config->state_dir);
        if (!g_unix_open_pipe(pipe, FD_CLOEXEC, error))
                return FALSE;
        scoped_fd int said = pipe[0], says = pipe[1];
        scoped_fd int pack = job->source != NULL
                                     ? open(job->source->pack_record_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                                     : -1;
        if (job->source != NULL && pack < 0)
                return moult_error_errno(error, errno, "opening %s", job->source->pack_record_dir);
        const int fds[N_FDS] = {fuse, job->original_fd, state, target, says, pack};
        const int n_fds = job->source != NULL ? N_FDS : PACK;

        g_autoptr(GPtrArray) in_scope = command_line(job, /* scope= */ TRUE);
        g_autoptr(GPtrArray) plain = command_line(job, /* scope= */ FALSE);
        g_autoptr(GError) why = NULL;
        /* Without a scope it serves as well; it ends with the agent's service then. */
        if ((in_scope->len == 0 || !spawn(in_scope, fds, n_fds, log, NULL)) &&
            !spawn(plain, fds, n_fds, log, &why)) {
                scoped_fd_close(&says);
                if (wait_ready(said, job->cancellable, error))
                        return TRUE;
                g_prefix_error(error, "%s: ", why->message);
                return FALSE;
        }
        scoped_fd_close(&says);
        return wait_ready(said, job->cancellable, error);
}

static int union_make(const struct merge_job *job, GError **error)
{
        mode_t type = job->merge.reach == MOULT__TARGET__REACH__REACH_TREE ? S_IFDIR : S_IFREG;
        int fuse = -1;
        scoped_fd int mount = union_mount_new(job->tag, job->attr, type, &fuse, error);
        if (mount < 0)
                return -1;
        /* From here on nobody but the server has the connection: if it dies, the mount is dead, and says so.
         */
        gboolean ok = start_server(job, fuse, error);
        close(fuse);
        if (ok)
                return g_steal_fd(&mount);
        g_prefix_error(error, "serving the merge /%s by union: ", job->merge.path);
        return -1;
}

static char *union_refusal(const struct merge_job *job)
{
        g_autofree char *program = program_path(job->config);
        g_autoptr(GError) error = NULL;
        int fuse = -1;

        if (access(program, X_OK) < 0)
                return g_strdup_printf("%s cannot be run: %s", program, g_strerror(errno));
        scoped_fd int mount = union_mount_new("moult-probe", job->attr, S_IFDIR, &fuse, &error);
        scoped_fd_close(&fuse);
        return mount < 0 ? g_strdup(error->message) : NULL;
}

/* A mount that was not used is gone when its descriptor is closed, and its server sees that. */
const struct merge_method_ops merge_union = {MERGE_UNION, union_refusal, union_make, NULL};
