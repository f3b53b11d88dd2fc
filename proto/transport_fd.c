/* proto/transport_fd.c - a transport over a descriptor: virtio port, Unix socket.
 *
 * One watch does all: it looks at the descriptor while there is a peer, and has a time while there is none. A
 * virtio port whose host side is closed reports HUP as long as that lasts, so it must leave the poll set: it
 * is looked at again after 200 ms, 400 ms, ... 5 s (one wake-up in 5 s is all that an agent without a host
 * costs). What was queued is dropped then: it belongs to a conversation that is over.
 *
 * A dispatch reads at most READ_BYTES and writes at most WRITE_BYTES, so no peer keeps the loop for itself.
 * A virtio port gives at most a page per read(2), hence the loop around it. */
#include "proto/transport_fd.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "proto/fd_watch.h"
#include "proto/send_queue.h"

#define READ_BYTES      (64u * 1024u)
#define WRITE_BYTES     (256u * 1024u)
#define AWAY_FIRST_MS   200u
#define AWAY_LONGEST_MS 5000u

typedef struct {
        Transport base;
        FdWatch watch;
        gboolean reopens, is_socket;
        enum { UNKNOWN, UP, AWAY } state;
        char *name, *peer;
        guint away_ms; /* the pause before the next look */
        SendQueue queue;
} FdTransport;

static void destroy(gpointer owner)
{
        FdTransport *t = owner;

        send_queue_clear(&t->queue);
        g_free(t->name);
        g_free(t->peer);
        g_free(t);
}

static gboolean is_alive(const FdTransport *t)
{
        return t->watch.fd >= 0;
}

static void shut(FdTransport *t)
{
        fd_watch_shut(&t->watch);
        t->state = UNKNOWN;
}

static void watch(FdTransport *t)
{
        fd_watch_want(&t->watch, G_IO_IN | G_IO_HUP | G_IO_ERR | (t->queue.queued > 0 ? G_IO_OUT : 0));
}

static void report(FdTransport *t, TransportStatus status, const GError *error)
{
        t->base.events->status(t->base.user, status, error);
}

static void go_closed(FdTransport *t, const GError *error)
{
        shut(t);
        report(t, TRANSPORT_CLOSED, error);
}

static void look_again_later(FdTransport *t)
{
        fd_watch_want(&t->watch, 0);
        fd_watch_set_time(&t->watch, g_get_monotonic_time() + (gint64)t->away_ms * 1000);
        t->away_ms = MIN(t->away_ms * 2, AWAY_LONGEST_MS);
}

/* The other side is not there (any more). */
static void peer_gone(FdTransport *t)
{
        g_autoptr(GError) error = NULL;

        if (!t->reopens) {
                g_set_error(&error, MOULT_ERROR, MOULT_ERROR_IO, "%s: the other side closed the connection",
                            t->peer);
                go_closed(t, error);
                return;
        }
        send_queue_clear(&t->queue);
        look_again_later(t);
        if (t->state == AWAY)
                return;
        t->state = AWAY;
        g_set_error(&error, MOULT_ERROR, MOULT_ERROR_IO, "%s: nobody has the other side open", t->peer);
        report(t, TRANSPORT_AWAY, error);
}

static void failed(FdTransport *t, int errnum, const char *what)
{
        g_autoptr(GError) error = NULL;

        moult_error_errno(&error, errnum, "%s: %s failed", t->peer, what);
        go_closed(t, error);
}

/* True to go on with the dispatch. */
static gboolean read_some(FdTransport *t)
{
        guint8 buf[READ_BYTES];
        size_t got = 0;
        gboolean gone = FALSE;
        int errnum = 0;

        while (got < sizeof buf) {
                ssize_t n = read(t->watch.fd, buf + got, sizeof buf - got);

                if (n > 0) {
                        got += (size_t)n;
                        continue;
                }
                if (n == 0)
                        gone = TRUE;
                else if (errno == EINTR)
                        continue;
                else if (errno != EAGAIN)
                        errnum = errno;
                break;
        }
        if (got > 0) { /* what was sent before the end counts */
                t->away_ms = AWAY_FIRST_MS;
                t->base.events->bytes(t->base.user, buf, got);
                if (!is_alive(t))
                        return FALSE;
        }
        if (errnum == ECONNRESET || errnum == EPIPE)
                gone = TRUE;
        if (gone)
                peer_gone(t);
        else if (errnum != 0)
                failed(t, errnum, "read");
        return !gone && errnum == 0;
}

static ssize_t write_once(const FdTransport *t, const void *data, gsize len)
{
        /* A peer that went away must not become SIGPIPE. */
        return t->is_socket ? send(t->watch.fd, data, len, MSG_NOSIGNAL) : write(t->watch.fd, data, len);
}

static gboolean write_some(FdTransport *t)
{
        gsize written = 0, len = 0;
        const void *data;

        while (written < WRITE_BYTES && (data = send_queue_peek(&t->queue, &len))) {
                ssize_t n = write_once(t, data, MIN(len, WRITE_BYTES - written));

                if (n > 0) {
                        send_queue_consume(&t->queue, (gsize)n);
                        written += (gsize)n;
                } else if (n == 0 || errno == EAGAIN) {
                        break; /* poll tells when there is room */
                } else if (errno != EINTR) {
                        if (errno == EPIPE || errno == ECONNRESET || (t->reopens && errno == ENODEV))
                                peer_gone(t);
                        else
                                failed(t, errno, "write");
                        return FALSE;
                }
        }
        if (send_queue_has_room(&t->queue) && t->base.events->writable)
                t->base.events->writable(t->base.user);
        return is_alive(t);
}

/* While there is no peer: is there one now? */
static void look(FdTransport *t)
{
        struct pollfd p = {.fd = t->watch.fd, .events = POLLIN};

        if (poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) && !(p.revents & POLLIN)) {
                peer_gone(t);
                return;
        }
        fd_watch_set_time(&t->watch, -1);
        t->state = UP;
        watch(t);
        report(t, TRANSPORT_UP, NULL);
}

static void dispatch(gpointer owner)
{
        FdTransport *t = owner;
        GIOCondition got;

        if (!fd_watch_is_polled(&t->watch)) {
                look(t);
                return;
        }
        got = fd_watch_got(&t->watch);
        if ((got & (G_IO_IN | G_IO_HUP | G_IO_ERR)) && !read_some(t))
                return;
        /* HUP with nothing left to read, from a device that then says EAGAIN instead of 0. */
        if ((got & G_IO_HUP) && !(got & G_IO_IN)) {
                peer_gone(t);
                return;
        }
        if ((got & G_IO_OUT) && fd_watch_is_polled(&t->watch) && !write_some(t))
                return;
        if (fd_watch_is_polled(&t->watch))
                watch(t);
}

static void fd_start(Transport *base)
{
        fd_watch_start(&((FdTransport *)base)->watch, 0); /* the first look */
}

static void fd_send(Transport *base, GBytes *frame)
{
        FdTransport *t = (FdTransport *)base;

        if (t->state != UP)
                return;
        send_queue_push(&t->queue, frame);
        watch(t);
}

static gsize fd_queued(Transport *base)
{
        return ((FdTransport *)base)->queue.queued;
}

static const char *fd_peer(Transport *base)
{
        return ((FdTransport *)base)->peer;
}

static const guint8 *fd_peer_fingerprint(Transport *base)
{
        return NULL;
}

static const char *fd_name(Transport *base)
{
        return ((FdTransport *)base)->name;
}

static void fd_free(Transport *base)
{
        FdTransport *t = (FdTransport *)base;

        shut(t);
        fd_watch_unref(&t->watch);
}

static const struct transport_ops fd_ops = {
        .name = "fd",
        .start = fd_start,
        .send = fd_send,
        .queued = fd_queued,
        .peer = fd_peer,
        .peer_fingerprint = fd_peer_fingerprint,
        .instance_name = fd_name,
        .free = fd_free,
        .near = TRUE,
};

Transport *transport_fd_new(int fd, const char *name, const char *peer, gboolean reopens)
{
        FdTransport *t = g_new0(FdTransport, 1);
        struct stat st;

        t->base.ops = &fd_ops;
        fd_watch_init(&t->watch, fd, dispatch, destroy, t);
        t->reopens = reopens;
        t->is_socket = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
        t->name = g_strdup(name);
        t->peer = g_strdup(peer);
        t->away_ms = AWAY_FIRST_MS;
        send_queue_init(&t->queue);
        return &t->base;
}
