/* guest-agent/freezer.c - the process that holds a freeze. */
#include "guest-agent/freezer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "guest-agent/freeze_mounts.h"

#define CLIENTS_MAX  4u
#define THREAD_STACK (64u * 1024u)
#define ASK_MS       60000

enum operation { OP_SYNC, OP_FREEZE, OP_THAW };

/* One file system, and its thread. */
struct holding {
        int fd, done_fd;
        sem_t begin;
        enum operation operation; /* written before `begin` is posted */
        int error;                /* written before `done` is set */
        gint done;
};

enum { FD_SIGNALS, FD_TIMER, FD_DONE, FD_LISTEN, FD_CLIENTS, N_FDS = FD_CLIENTS + CLIENTS_MAX };

struct freezer {
        struct freeze_machine machine;
        struct freeze_record *record;
        struct holding *holdings;
        struct pollfd fds[N_FDS];
};

static gint64 now_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_BOOTTIME, &t);
        return (gint64)t.tv_sec * G_USEC_PER_SEC + t.tv_nsec / 1000;
}

/* ---- threads ---- */

static int operate(const struct holding *h)
{
        int r;

        do {
                if (h->operation == OP_SYNC)
                        r = syncfs(h->fd);
                else
                        r = ioctl(h->fd, h->operation == OP_FREEZE ? FIFREEZE : FITHAW, 0);
        } while (r < 0 && errno == EINTR);
        return r < 0 ? errno : 0;
}

static void *serve(void *user)
{
        struct holding *h = user;
        const guint64 one = 1;
        ssize_t n;

        for (;;) {
                while (sem_wait(&h->begin) < 0)
                        ;
                h->error = operate(h);
                g_atomic_int_set(&h->done, TRUE);
                n = write(h->done_fd, &one, sizeof one);
                (void)n;
        }
        return NULL;
}

static void begin(struct freezer *f, guint i, enum operation operation)
{
        f->holdings[i].operation = operation;
        sem_post(&f->holdings[i].begin);
}

static void begin_sync(guint i, gpointer user)
{
        begin(user, i, OP_SYNC);
}

static void begin_freeze(guint i, gpointer user)
{
        begin(user, i, OP_FREEZE);
}

static void begin_thaw(guint i, gpointer user)
{
        begin(user, i, OP_THAW);
}

static gboolean start_threads(struct freezer *f, GError **error)
{
        pthread_attr_t attr;
        int r = 0;

        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, THREAD_STACK);
        for (guint i = 0; i < f->record->n && r == 0; i++) {
                struct holding *h = &f->holdings[i];
                pthread_t thread;

                h->done_fd = f->fds[FD_DONE].fd;
                sem_init(&h->begin, 0, 0);
                r = pthread_create(&thread, &attr, serve, h);
        }
        pthread_attr_destroy(&attr);
        return r == 0 ? TRUE : moult_error_errno(error, r, "starting a thread for each file system");
}

/* ---- preparation ---- */

static gboolean open_mounts(struct freezer *f, const struct freezer_options *o, GError **error)
{
        g_autoptr(MountTable) table = mount_table_load_file(o->mountinfo, error);
        g_autoptr(GPtrArray) targets = table ? freeze_mounts_select(table) : NULL;

        if (!targets)
                return FALSE;
        if (targets->len > LIMIT_FREEZE_MOUNTS) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                            "there are %u file systems to freeze, and %u are the most that can be",
                            targets->len, LIMIT_FREEZE_MOUNTS);
                return FALSE;
        }
        f->record = freeze_record_new(o->directory, targets->len, error);
        if (!f->record)
                return FALSE;
        f->holdings = g_new0(struct holding, targets->len);
        for (guint i = 0; i < targets->len; i++) {
                const struct freeze_target *t = targets->pdata[i];
                const struct mount *m = NULL;

                f->holdings[i].fd = freeze_target_open(t, &m, error);
                if (f->holdings[i].fd < 0)
                        return FALSE;
                f->record->mounts[i].id = m->id;
                f->record->mounts[i].device = t->device;
                g_strlcpy(f->record->mounts[i].point, m->point, sizeof f->record->mounts[i].point);
        }
        return TRUE;
}

static gboolean listen_at(struct freezer *f, const char *directory, GError **error)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        g_autofree char *path = g_build_filename(directory, FREEZE_SOCKET_NAME, NULL);
        int fd;

        if (g_strlcpy(address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path)
                return moult_error_errno(error, ENAMETOOLONG, "listening on %s", path);
        unlink(path);
        umask(0177);
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        f->fds[FD_LISTEN].fd = fd;
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4) < 0)
                return moult_error_errno(error, errno, "listening on %s", path);
        return TRUE;
}

static gboolean open_fds(struct freezer *f, const struct freezer_options *o, GError **error)
{
        sigset_t all;

        for (guint i = 0; i < N_FDS; i++)
                f->fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL); /* and in the threads to come */
        f->fds[FD_SIGNALS].fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
        f->fds[FD_TIMER].fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
        f->fds[FD_DONE].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        f->fds[FD_CLIENTS].fd = o->agent;
        if (f->fds[FD_SIGNALS].fd < 0 || f->fds[FD_TIMER].fd < 0 || f->fds[FD_DONE].fd < 0)
                return moult_error_errno(error, errno, "making what the freezer waits for");
        return listen_at(f, o->directory, error);
}

/* Nothing may have to be fetched, or room be made for it, while file systems are frozen. */
static gboolean lock_memory(GError **error)
{
        int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

        if (fd >= 0) {
                ssize_t n = write(fd, "-1000", 5); /* a hint: without the right to it, the agent is there */
                (void)n;
                close(fd);
        }
        if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
                return moult_error_errno(
                        error, errno,
                        "locking the freezer in memory (a service needs LimitMEMLOCK=infinity)");
        return TRUE;
}

/* ---- while they are frozen: no memory, no file, no log ---- */

static void set_timer(const struct freezer *f)
{
        gint64 wake = freeze_machine_wake_us(&f->machine);
        struct itimerspec at = {0};

        at.it_value.tv_sec = (time_t)(wake / G_USEC_PER_SEC);
        at.it_value.tv_nsec = (long)(wake % G_USEC_PER_SEC) * 1000;
        timerfd_settime(f->fds[FD_TIMER].fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void refresh_report(struct freezer *f)
{
        const struct freeze_machine *m = &f->machine;
        struct freeze_report *r = &f->record->report;
        gint64 now = now_us();

        r->why = m->why;
        r->held = (guint32)m->held;
        r->mounts = m->mounts;
        r->failed = m->failed;
        r->failed_errno = (guint32)m->failed_errno;
        r->frozen_us = (guint64)freeze_machine_frozen_us(m, now);
        r->lease_left_us = m->phase == FREEZE_FROZEN ? (guint64)MAX(m->deadline_us - now, 0) : 0;
        r->phase = m->phase; /* the last: a record that says THAWED says all */
}

static void tell(struct freezer *f, guint client)
{
        struct pollfd *p = &f->fds[FD_CLIENTS + client];

        if (p->fd >= 0)
                send(p->fd, &f->record->report, sizeof f->record->report, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void tell_all(struct freezer *f)
{
        refresh_report(f);
        for (guint i = 0; i < CLIENTS_MAX; i++)
                tell(f, i);
}

static gboolean is_ours(int fd)
{
        struct ucred who;
        socklen_t len = sizeof who;

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.uid == geteuid();
}

static void on_listen(struct freezer *f)
{
        int fd = accept4(f->fds[FD_LISTEN].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        for (guint i = 0; fd >= 0 && is_ours(fd) && i < CLIENTS_MAX; i++) {
                if (f->fds[FD_CLIENTS + i].fd >= 0)
                        continue;
                f->fds[FD_CLIENTS + i].fd = fd;
                return;
        }
        if (fd >= 0)
                close(fd);
}

static void on_client(struct freezer *f, guint client)
{
        struct pollfd *p = &f->fds[FD_CLIENTS + client];
        struct freeze_order order;
        ssize_t n = recv(p->fd, &order, sizeof order, MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n != sizeof order || order.magic != FREEZE_MAGIC) {
                close(p->fd);
                p->fd = -1;
                return;
        }
        if (order.kind == FREEZE_ORDER_RENEW)
                freeze_machine_renew(&f->machine, (gint64)MIN(order.lease_us, LIMIT_FREEZE_LEASE_MS * 1000),
                                     now_us());
        else if (order.kind == FREEZE_ORDER_THAW)
                freeze_machine_thaw(&f->machine, FREEZE_WHY_ASKED, now_us());
        refresh_report(f);
        tell(f, client);
}

static void on_done(struct freezer *f)
{
        guint64 n;
        ssize_t got = read(f->fds[FD_DONE].fd, &n, sizeof n);
        (void)got;

        for (guint i = 0; i < f->record->n; i++) {
                struct holding *h = &f->holdings[i];

                if (!g_atomic_int_compare_and_exchange(&h->done, TRUE, FALSE))
                        continue;
                freeze_machine_done(&f->machine, i, h->error, now_us());
        }
}

static void on_signal(struct freezer *f)
{
        struct signalfd_siginfo info;

        while (read(f->fds[FD_SIGNALS].fd, &info, sizeof info) == sizeof info)
                if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
                        freeze_machine_thaw(&f->machine, FREEZE_WHY_TOLD, now_us());
}

static void handle(struct freezer *f)
{
        guint64 n;

        if (f->fds[FD_DONE].revents)
                on_done(f);
        if (f->fds[FD_TIMER].revents && read(f->fds[FD_TIMER].fd, &n, sizeof n) > 0)
                freeze_machine_tick(&f->machine, now_us());
        if (f->fds[FD_SIGNALS].revents)
                on_signal(f);
        if (f->fds[FD_LISTEN].revents)
                on_listen(f);
        for (guint i = 0; i < CLIENTS_MAX; i++)
                if (f->fds[FD_CLIENTS + i].fd >= 0 && f->fds[FD_CLIENTS + i].revents)
                        on_client(f, i);
}

static void hold(struct freezer *f)
{
        enum freeze_phase told = FREEZE_SYNCING;

        freeze_machine_begin(&f->machine, now_us());
        while (f->machine.phase != FREEZE_THAWED) {
                set_timer(f);
                if (poll(f->fds, N_FDS, -1) < 0)
                        continue;
                handle(f);
                if (f->machine.phase != told && f->machine.phase != FREEZE_THAWED)
                        tell_all(f);
                told = f->machine.phase;
        }
        tell_all(f);
}

/* ---- life ---- */

gboolean freezer_run(const struct freezer_options *o, GError **error)
{
        static const struct freeze_ops ops = {begin_sync, begin_freeze, begin_thaw};
        struct freezer f = {0};

        if (!open_fds(&f, o, error) || !open_mounts(&f, o, error) || !start_threads(&f, error) ||
            !lock_memory(error))
                return FALSE;
        freeze_machine_init(&f.machine, f.record->states, f.record->n, o->lease_us, &ops, &f);
        memcpy(f.record->report.id, o->id, FREEZE_ID_SIZE);
        f.record->report.magic = FREEZE_MAGIC; /* from here on it is a record */
        hold(&f);
        return TRUE;
}

int freezer_connect(const char *directory, GError **error)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        g_autofree char *path = g_build_filename(directory, FREEZE_SOCKET_NAME, NULL);
        scoped_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        if (fd < 0 || g_strlcpy(address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path) {
                moult_error_errno(error, fd < 0 ? errno : ENAMETOOLONG, "connecting to %s", path);
                return -1;
        }
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
                if (is_ours(fd))
                        return g_steal_fd(&fd);
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED, "%s is another user's", path);
        } else if (errno != ENOENT && errno != ECONNREFUSED) {
                moult_error_errno(error, errno, "connecting to %s", path);
        }
        return -1;
}

gboolean freezer_ask(int fd, enum freeze_order_kind kind, enum freeze_phase until, struct freeze_report *ret,
                     GError **error)
{
        const struct freeze_order order = {.magic = FREEZE_MAGIC, .kind = kind};
        gint64 deadline = g_get_monotonic_time() + (gint64)ASK_MS * 1000;

        if (send(fd, &order, sizeof order, MSG_NOSIGNAL) < 0)
                return FALSE; /* gone */
        for (;;) {
                struct pollfd p = {.fd = fd, .events = POLLIN};
                gint64 left_ms = (deadline - g_get_monotonic_time()) / 1000;
                struct freeze_report r;
                ssize_t n;

                if (left_ms <= 0 || (poll(&p, 1, (int)left_ms) == 0)) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                                    "the process that holds the freeze does not answer");
                        return FALSE;
                }
                n = recv(fd, &r, sizeof r, 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n != sizeof r || r.magic != FREEZE_MAGIC)
                        return FALSE;
                *ret = r;
                if (r.phase >= until)
                        return TRUE;
        }
}
