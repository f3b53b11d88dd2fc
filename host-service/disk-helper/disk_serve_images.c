/* host-service/disk-helper/disk_serve_images.c - opens images, and starts a qemu-nbd that has these and
 * nothing else. */
#include "host-service/disk-helper/disk_serve_images.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fd.h"
#include "host-service/disk-helper/disk_confine.h"
#include "host-service/disk-helper/disk_message.h"
#include "host-service/disk-helper/disk_packet.h"
#include "host-service/disk/disk_chain.h"

#define FIRST_FD    16 /* above all that the child's start uses */
#define END_SECONDS 10

struct opened {
        int fds[DISK_CHAIN_MAX]; /* as many as were opened */
        guint n;
        char *names[DISK_CHAIN_MAX + 1]; /* "/proc/self/fd/N": the file that was judged, whatever its name is
                                            by then */
};

static void opened_clear(struct opened *o)
{
        for (guint i = 0; i < o->n; i++) {
                close(o->fds[i]);
                g_free(o->names[i]);
        }
}

/* The same file under a number that the child's start does not use. Takes over @fd. */
static int raise_fd(int fd)
{
        scoped_fd int low = fd;

        return fcntl(low, F_DUPFD_CLOEXEC, FIRST_FD);
}

static gboolean open_one(const struct disk_service *service, const char *path, gboolean write,
                         struct opened *o, GError **error)
{
        g_autofree char *dir = g_path_get_dirname(path), *name = g_path_get_basename(path);
        scoped_fd int dir_fd = disk_dirs_open(service->dirs, dir, error);
        int flags = (write ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, fd;

        if (dir_fd < 0)
                return FALSE;
        fd = openat(dir_fd, name, flags);
        if (fd >= 0)
                fd = raise_fd(fd);
        if (fd < 0)
                return moult_error_errno(error, errno, "opening the image %s", path);
        o->fds[o->n] = fd;
        o->names[o->n++] = g_strdup_printf("/proc/self/fd/%d", fd);
        return TRUE;
}

/* What opens the images has the right to open them, and no other. For this process and what it starts. */
static void give_up_the_rest(void)
{
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, CAP_CHOWN, 0, 0);
}

/* One that came, or one of our own, without a name. */
static gboolean find_socket(const struct disk_images *want, int *listening, int *ret_nbd, GError **error)
{
        int domain = 0, type = 0, listens = 0, fd;
        socklen_t len = sizeof(int);

        if (*listening < 0 && !want->shared)
                return disk_process_sockets(NULL, listening, ret_nbd, error);
        fd = *listening;
        if (fd >= 0 && want->shared && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
            getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
            getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && domain == AF_UNIX &&
            type == SOCK_STREAM && listens)
                return TRUE;
        g_set_error_literal(
                error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                "moult-disks was asked for what it does not do: what is shared is read over a Unix "
                "socket that listens, which comes with the request, and nothing else is");
        return FALSE;
}

static DiskProcess *start(const struct disk_service *service, const struct disk_images *want,
                          struct opened *o, int *listening, int *ret_nbd, GError **error)
{
        const struct disk_options options = {.writable = want->writable, .size = want->size};
        const char *const *open_as = (const char *const *)o->names;
        struct disk_process_files files = {.fds = o->fds};
        scoped_fd int ruleset = -1;
        g_autoptr(GError) why = NULL;

        if (!find_socket(want, listening, ret_nbd, error))
                return NULL;
        for (guint i = 0; i < want->n; i++)
                if (!open_one(service, want->chain[i].path, i == 0 && want->writable, o, error))
                        return NULL;
        if (!disk_chain_check(want->chain, want->n, open_as, &options, error))
                return NULL;
        ruleset = disk_confine_to(o->fds, o->n, want->writable, &why);
        if (why) {
                g_propagate_error(error, g_steal_pointer(&why));
                return NULL;
        }
        if (ruleset < 0)
                event_log(EVENT_WARNING, "disk-not-confined",
                          "this kernel has no Landlock: what a hostile image makes of qemu-nbd could reach "
                          "other disks",
                          "image", want->chain[0].path, NULL);
        else
                ruleset = raise_fd(g_steal_fd(&ruleset));
        files.n = o->n;
        files.ruleset = ruleset;
        const struct disk_serving how = {*listening, want->writable, want->shared};
        return disk_chain_serve(want->chain, want->n, open_as, &how, &files, error);
}

/* Until moultd hangs up, or the process ends. */
static void wait_for_either(GSocket *s, DiskProcess *p)
{
        scoped_fd int pidfd = (int)syscall(SYS_pidfd_open, disk_process_pid(p), 0);
        struct pollfd both[2] = {{.fd = g_socket_get_fd(s), .events = POLLRDHUP},
                                 {.fd = pidfd, .events = POLLIN}};

        while (poll(both, 2, -1) < 0 && errno == EINTR)
                ;
}

static gboolean tell_end(GSocket *s, DiskProcess *p, GError **error)
{
        g_autofree char *words = NULL;
        g_autoptr(GBytes) packet = NULL;
        int status;

        if ((g_socket_condition_check(s, G_IO_HUP) & G_IO_HUP) != 0 ||
            !disk_process_wait(p, END_SECONDS, &status))
                return TRUE; /* nobody asks for it, and freeing ends it */
        words = disk_process_last_words(p);
        packet = disk_end_write(status, words);
        return disk_packet_send(s, packet, -1, NULL, error);
}

gboolean disk_serve_images(GSocket *s, const struct disk_service *service, GBytes *request, int listening,
                           GError **error)
{
        g_autoptr(GError) failed = NULL;
        g_autoptr(GBytes) answer = NULL;
        struct disk_images want = {0};
        struct opened o = {0};
        scoped_fd int socket = listening, nbd = -1;
        DiskProcess *p = NULL;
        gboolean well;

        give_up_the_rest();
        if (disk_images_read(request, &want, &failed))
                p = start(service, &want, &o, &socket, &nbd, &failed);
        if (failed)
                event_log(EVENT_WARNING, "disk-not-opened", failed->message, "image",
                          want.n > 0 ? want.chain[0].path : "", NULL);
        else
                event_log(EVENT_INFO, "disk-opened", want.writable ? "for writing" : "for reading", "image",
                          want.chain[0].path, NULL);
        answer = disk_answer_write(NULL, failed);
        well = disk_packet_send(s, answer, p ? nbd : -1, NULL, error);
        opened_clear(&o);
        if (socket >= 0)
                close(g_steal_fd(&socket)); /* qemu-nbd has it, alone */
        if (nbd >= 0)
                close(g_steal_fd(&nbd)); /* moultd has it, alone */
        if (p && well) {
                wait_for_either(s, p);
                well = tell_end(s, p, error);
        }
        disk_process_free(p);
        disk_images_clear(&want);
        return well;
}
