/* host-service/disk/disk_process.c - starts, listens to and ends a qemu-nbd. */
#include "host-service/disk/disk_process.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"

#define LISTEN_FD      3 /* where systemd's protocol has the first socket */
#define PID_VARIABLE   "LISTEN_PID="
#define PID_DIGITS     10
#define LINE_MAX_BYTES (128u << 10) /* names of a whole chain are in it */
#define SEND_BYTES     (4 << 20)
#define FREE_SECONDS   5
#define BACKLOG        16
/* What an image may make it take. Tables of a hostile image cost up to some 100 MiB, requests in flight 16
 * times 32 MiB, the stacks of its threads the rest; it is there so that a fault in QEMU does not take the
 * host's memory. There is no limit on its CPU time: an honest disk may need hours of it, and one that
 * computes without an end does not answer, and is killed for that. */
#define ADDRESS_SPACE_MAX ((rlim_t)4 << 30)
#define DESCRIPTORS_MAX   256

struct DiskProcess {
        gint refs;               /* the owner's and the thread's */
        const char *const *argv; /* for the start only */
        int listen_fd;           /* likewise */
        const struct disk_process_files *files;
        const struct disk_process_keeper *keeper; /* NULL: it is our own child */
        gpointer kept;
        GMutex lock; /* guards all below */
        GCond changed;
        gboolean started, ended;
        GError *start_error;
        GPid pid;
        int status;
        GString *line; /* what was said since the last end of a line */
        char *words;   /* the last line that says something */
};

static void process_unref(DiskProcess *p)
{
        if (!g_atomic_int_dec_and_test(&p->refs))
                return;
        g_mutex_clear(&p->lock);
        g_cond_clear(&p->changed);
        g_clear_error(&p->start_error);
        g_string_free(p->line, TRUE);
        g_free(p->words);
        if (p->keeper)
                p->keeper->free(p->kept);
        g_free(p);
}

/* ---- the socket ---- */

static gboolean socket_pair_named(const char *path, int *ret_listen, int *ret_connected, GError **error)
{
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        scoped_fd int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        scoped_fd int connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (strlen(path) >= sizeof a.sun_path) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO,
                            "%s: too long for a socket's name; set TMPDIR", path);
                return FALSE;
        }
        g_strlcpy(a.sun_path, path, sizeof a.sun_path);
        if (listening < 0 || connected < 0)
                return moult_error_errno(error, errno, "making a socket for qemu-nbd");
        /* Room for whole requests means fewer changes of processes; less is given where the kernel's limit
         * is. */
        (void)setsockopt(connected, SOL_SOCKET, SO_SNDBUF, &(int){SEND_BYTES}, sizeof(int));
        int r = bind(listening, (struct sockaddr *)&a, sizeof a);
        if (r == 0)
                r = listen(listening, BACKLOG);
        if (r == 0)
                r = connect(connected, (struct sockaddr *)&a, sizeof a);
        if (r < 0)
                return moult_error_errno(error, errno, "making the socket %s for qemu-nbd", path);
        *ret_listen = g_steal_fd(&listening);
        *ret_connected = g_steal_fd(&connected);
        return TRUE;
}

gboolean disk_process_sockets(const char *named, int *ret_listen, int *ret_connected, GError **error)
{
        if (named)
                return socket_pair_named(named, ret_listen, ret_connected, error) &&
                       (chmod(named, 0660) == 0 ||
                        moult_error_errno(error, errno, "opening %s to its group", named));
        g_autoptr(GError) local = NULL;
        g_autofree char *dir = g_dir_make_tmp("moult-disk-XXXXXX", &local);

        if (!dir) {
                g_set_error(error, MOULT_ERROR, moult_error_code(local), "starting qemu-nbd: %s",
                            local->message);
                return FALSE;
        }
        g_autofree char *path = g_build_filename(dir, "s", NULL);
        gboolean ok = socket_pair_named(path, ret_listen, ret_connected, error);
        (void)unlink(path);
        (void)rmdir(dir);
        return ok;
}

/* ---- the child ---- */

struct child {
        pid_t parent;
        char *pid_variable; /* "LISTEN_PID=0000000000", in the child's environment */
        int ruleset;        /* -1: none */
};

/* In the child, before exec: only what a signal handler may do. */
static void set_up_child(gpointer data)
{
        struct child *c = data;
        const struct rlimit memory = {ADDRESS_SPACE_MAX, ADDRESS_SPACE_MAX}, none = {0, 0},
                            files = {DESCRIPTORS_MAX, DESCRIPTORS_MAX};
        char *digit = c->pid_variable + strlen(PID_VARIABLE) + PID_DIGITS;

        /* Our parent may have died before it was asked for. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != c->parent)
                _exit(127);
        for (pid_t pid = getpid(); pid > 0; pid /= 10)
                *--digit = (char)('0' + pid % 10);
        /* A core would hold a guest's data. */
        if (setrlimit(RLIMIT_AS, &memory) < 0 || setrlimit(RLIMIT_CORE, &none) < 0 ||
            setrlimit(RLIMIT_NOFILE, &files) < 0)
                _exit(127);
        if (c->ruleset >= 0 && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
                                syscall(SYS_landlock_restrict_self, c->ruleset, 0) < 0))
                _exit(127);
}

static gboolean spawn(DiskProcess *p, GPid *ret_pid, int *ret_stderr, GError **error)
{
        g_autofree char *pid_variable = g_strdup(PID_VARIABLE "0000000000");
        g_autofree char *path = g_strconcat("PATH=", g_getenv("PATH") ?: "/usr/bin:/bin", NULL);
        /* Errors in English, since we look into them. Few arenas, since they count as address space. And a
         * heap that keeps what a request's buffer took: else each one is mapped, zeroed and given back by the
         * kernel, which was half of the time of a copy. */
        const char *const env[] = {path,
                                   "LISTEN_FDS=1",
                                   pid_variable,
                                   "LC_ALL=C",
                                   "MALLOC_ARENA_MAX=4",
                                   "MALLOC_MMAP_THRESHOLD_=33554432",
                                   "MALLOC_TRIM_THRESHOLD_=536870912",
                                   NULL};
        const struct disk_process_files none = {.ruleset = -1}, *files = p->files ? p->files : &none;
        struct child child = {getpid(), pid_variable, files->ruleset};
        g_autofree int *sources = g_new(int, files->n + 1), *targets = g_new(int, files->n + 1);
        g_autoptr(GError) local = NULL;

        sources[0] = p->listen_fd;
        targets[0] = LISTEN_FD;
        for (guint i = 0; i < files->n; i++)
                sources[i + 1] = targets[i + 1] = files->fds[i];
        if (g_spawn_async_with_pipes_and_fds("/", p->argv, env,
                                             G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
                                                     G_SPAWN_STDOUT_TO_DEV_NULL,
                                             set_up_child, &child, -1, -1, -1, sources, targets, files->n + 1,
                                             ret_pid, NULL, NULL, ret_stderr, &local))
                return TRUE;
        gboolean missing = g_error_matches(local, G_SPAWN_ERROR, G_SPAWN_ERROR_NOENT);
        g_set_error(error, MOULT_ERROR, missing ? MOULT_ERROR_UNSUPPORTED : MOULT_ERROR_IO,
                    "%s cannot be started%s: %s", p->argv[0],
                    missing ? "; disks are read with it (package qemu-utils)" : "", local->message);
        return FALSE;
}

/* ---- the thread ---- */

static gboolean says_something(const char *line)
{
        return *line != '\0' && !g_str_has_prefix(line, "Is another process using");
}

/* What qemu-nbd says begins with the whole chain. */
static const char *without_chain(const char *line)
{
        const char *end = strstr(line, "}': ");

        return end ? end + strlen("}': ") : line;
}

/* Under the lock. */
static void end_line(DiskProcess *p)
{
        if (says_something(p->line->str)) {
                g_free(p->words);
                p->words = g_utf8_make_valid(without_chain(p->line->str), -1);
        }
        g_string_truncate(p->line, 0);
}

static void take_words(DiskProcess *p, const char *text, gsize len)
{
        g_mutex_lock(&p->lock);
        for (gsize i = 0; i < len; i++)
                if (text[i] == '\n')
                        end_line(p);
                else if (p->line->len < LINE_MAX_BYTES && text[i] != '\0')
                        g_string_append_c(p->line, text[i]);
        g_mutex_unlock(&p->lock);
}

static void listen_until_end(DiskProcess *p, int fd)
{
        char buf[4096];

        for (;;) {
                ssize_t len = read(fd, buf, sizeof buf);
                if (len > 0)
                        take_words(p, buf, (gsize)len);
                else if (len == 0 || errno != EINTR)
                        break;
        }
}

/* While it is a zombie its number is nobody else's: it is reaped under the lock that disk_process_kill()
 * takes. */
static void reap(DiskProcess *p, GPid pid)
{
        siginfo_t info;
        int status = 0;

        while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
                ;
        g_mutex_lock(&p->lock);
        (void)waitpid(pid, &status, 0);
        end_line(p);
        p->status = status;
        p->ended = TRUE;
        g_cond_broadcast(&p->changed);
        g_mutex_unlock(&p->lock);
}

static gpointer run(gpointer data)
{
        DiskProcess *p = data;
        GError *error = NULL;
        GPid pid = 0;
        scoped_fd int words = -1;
        gboolean ok = spawn(p, &pid, &words, &error);

        g_mutex_lock(&p->lock);
        p->started = TRUE;
        p->start_error = error;
        p->pid = pid;
        p->ended = !ok;
        g_cond_broadcast(&p->changed);
        g_mutex_unlock(&p->lock);
        if (ok) {
                listen_until_end(p, words);
                reap(p, pid);
        }
        process_unref(p);
        return NULL;
}

static gpointer run_kept(gpointer data)
{
        DiskProcess *p = data;
        int status = 0;
        char *words;

        g_mutex_lock(&p->lock);
        p->started = TRUE;
        g_cond_broadcast(&p->changed);
        g_mutex_unlock(&p->lock);
        words = p->keeper->wait(p->kept, &status);
        g_mutex_lock(&p->lock);
        p->words = words;
        p->status = status;
        p->ended = TRUE;
        g_cond_broadcast(&p->changed);
        g_mutex_unlock(&p->lock);
        process_unref(p);
        return NULL;
}

static gboolean start_thread(DiskProcess *p, GError **error)
{
        g_atomic_int_inc(&p->refs);
        GThread *thread = g_thread_try_new("qemu-nbd", p->keeper ? run_kept : run, p, error);
        if (!thread) {
                g_atomic_int_add(&p->refs, -1);
                return FALSE;
        }
        g_thread_unref(thread);
        g_mutex_lock(&p->lock);
        while (!p->started)
                g_cond_wait(&p->changed, &p->lock);
        GError *failed = g_steal_pointer(&p->start_error);
        g_mutex_unlock(&p->lock);
        if (failed)
                g_propagate_error(error, failed);
        return failed == NULL;
}

static DiskProcess *process_new(void)
{
        DiskProcess *p = g_new0(DiskProcess, 1);

        p->refs = 1;
        p->listen_fd = -1;
        g_mutex_init(&p->lock);
        g_cond_init(&p->changed);
        p->line = g_string_new(NULL);
        return p;
}

DiskProcess *disk_process_adopt(const struct disk_process_keeper *keeper, gpointer self, GError **error)
{
        DiskProcess *p = process_new();

        p->keeper = keeper;
        p->kept = self;
        if (start_thread(p, error))
                return p;
        process_unref(p);
        return NULL;
}

DiskProcess *disk_process_start(const char *const *argv, const struct disk_process_files *files,
                                int listening, GError **error)
{
        DiskProcess *p = process_new();

        p->argv = argv;
        p->files = files;
        p->listen_fd = listening;
        if (start_thread(p, error))
                return p;
        process_unref(p);
        return NULL;
}

GPid disk_process_pid(const DiskProcess *p)
{
        return p->pid;
}

void disk_process_kill(DiskProcess *p)
{
        g_mutex_lock(&p->lock);
        if (!p->ended && p->keeper)
                p->keeper->kill(p->kept);
        else if (!p->ended)
                (void)kill(p->pid, SIGKILL);
        g_mutex_unlock(&p->lock);
}

gboolean disk_process_wait(DiskProcess *p, guint seconds, int *ret_status)
{
        gint64 until = g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
        gboolean in_time = TRUE;

        g_mutex_lock(&p->lock);
        while (!p->ended && in_time)
                in_time = g_cond_wait_until(&p->changed, &p->lock, until);
        gboolean ended = p->ended;
        if (ended)
                *ret_status = p->status;
        g_mutex_unlock(&p->lock);
        return ended;
}

char *disk_process_last_words(DiskProcess *p)
{
        g_mutex_lock(&p->lock);
        char *words = g_strdup(p->words ? p->words : "");
        g_mutex_unlock(&p->lock);
        return words;
}

void disk_process_free(DiskProcess *p)
{
        int status;

        if (!p)
                return;
        disk_process_kill(p);
        (void)disk_process_wait(p, FREE_SECONDS, &status);
        process_unref(p);
}
