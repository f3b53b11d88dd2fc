/* host-service/disk/disk_io.c - requests to qemu-nbd, and waiting for their answers. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "common/error.h"
#include "host-service/disk/disk_private.h"

/* QEMU deals with a long request of zeros in one go, and is silent until it is done. */
#define ZERO_PIECE (128u << 20)

/* ---- waiting ---- */

void disk_wait_init(struct disk_wait *w, Disk *a, Disk *b, GCancellable *cancellable)
{
        *w = (struct disk_wait){.disks = {a, b}, .n = b ? 2 : 1, .cancellable = cancellable};
        w->can_cancel = cancellable && g_cancellable_make_pollfd(cancellable, &w->cancelled);
}

void disk_wait_clear(struct disk_wait *w)
{
        if (w->can_cancel)
                g_cancellable_release_fd(w->cancellable);
        w->can_cancel = FALSE;
}

/* All of them: their requests are about buffers that the caller will free. */
static gboolean break_all(struct disk_wait *w)
{
        for (guint i = 0; i < w->n; i++)
                disk_break(w->disks[i]);
        return FALSE;
}

static gboolean is_waited_for(const Disk *d)
{
        return nbd_aio_in_flight(d->nbd) > 0 || !nbd_aio_is_ready(d->nbd);
}

/* Milliseconds for poll(): until @until_us, or a silent disk's time is over. */
static int patience_ms(const struct disk_wait *w, gint64 until_us, gint64 now)
{
        gint64 until = until_us;

        for (guint i = 0; i < w->n; i++) {
                gint64 over = w->disks[i]->heard_us + (gint64)w->disks[i]->answer_seconds * G_USEC_PER_SEC;
                if (is_waited_for(w->disks[i]) && (until < 0 || over < until))
                        until = over;
        }
        if (until < 0)
                return -1;
        return until <= now ? 0 : (int)MIN((until - now + 999) / 1000, G_MAXINT);
}

static short events_of(struct nbd_handle *nbd)
{
        unsigned direction = nbd_aio_get_direction(nbd);

        return (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                       (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
}

/* What poll() has found. FALSE: the disk has broken. */
static gboolean tell(Disk *d, short revents, gint64 now, const char *doing, GError **error)
{
        unsigned direction = nbd_aio_get_direction(d->nbd);
        int r = 0;

        if (revents & (POLLIN | POLLHUP | POLLERR) && direction & LIBNBD_AIO_DIRECTION_READ)
                r = nbd_aio_notify_read(d->nbd);
        else if (revents & (POLLOUT | POLLHUP | POLLERR) && direction & LIBNBD_AIO_DIRECTION_WRITE)
                r = nbd_aio_notify_write(d->nbd);
        if (revents)
                d->heard_us = now;
        if (r < 0 || nbd_aio_is_dead(d->nbd) || nbd_aio_is_closed(d->nbd))
                return disk_fail(d, strcmp(doing, "opening") == 0 ? MOULT_ERROR_CORRUPT : MOULT_ERROR_IO,
                                 error, doing);
        if (is_waited_for(d) && now >= d->heard_us + (gint64)d->answer_seconds * G_USEC_PER_SEC)
                return disk_fail_silent(d, error, doing);
        return TRUE;
}

gboolean disk_wait_turn(struct disk_wait *w, gint64 until_us, const char *doing, GError **error)
{
        struct pollfd fds[3];
        guint n = w->n;

        for (guint i = 0; i < w->n; i++)
                fds[i] = (struct pollfd){nbd_aio_get_fd(w->disks[i]->nbd), events_of(w->disks[i]->nbd), 0};
        if (w->can_cancel)
                fds[n++] = (struct pollfd){w->cancelled.fd, POLLIN, 0};
        int r = poll(fds, n, patience_ms(w, until_us, g_get_monotonic_time()));
        if (r < 0 && errno != EINTR) {
                moult_error_errno(error, errno, "waiting for qemu-nbd");
                return break_all(w);
        }
        if (r < 0)
                return TRUE;
        if (g_cancellable_is_cancelled(w->cancellable)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CANCELLED, "%s %s was cancelled", doing,
                            w->disks[0]->name);
                return break_all(w);
        }
        gint64 now = g_get_monotonic_time();
        for (guint i = 0; i < w->n; i++)
                if (!tell(w->disks[i], fds[i].revents, now, doing, error))
                        return break_all(w);
        return TRUE;
}

/* ---- answers ---- */

static int take_reply(void *data, int *error)
{
        struct disk_reply *reply = data;

        reply->errnum = *error;
        reply->done = TRUE;
        return 1; /* libnbd need not keep it for us */
}

nbd_completion_callback disk_reply_callback(struct disk_reply *reply)
{
        *reply = (struct disk_reply){0};
        return (nbd_completion_callback){.callback = take_reply, .user_data = reply};
}

gboolean disk_sent(Disk *d, gint64 cookie, GError **error, const char *doing)
{
        if (cookie < 0)
                return disk_fail(d, MOULT_ERROR_IO, error, doing);
        if (nbd_aio_in_flight(d->nbd) <= 1)
                d->heard_us = g_get_monotonic_time();
        return TRUE;
}

/* ---- one request after the other, several at once ---- */

struct stream {
        Disk *disk;
        enum { READ, WRITE, ZERO, FLUSH } what;
        guint64 offset, left;
        guint8 *at; /* of @left bytes; NULL for ZERO and FLUSH */
        const char *doing;
};

/* Sends the next piece. */
static gboolean send_piece(struct stream *s, struct disk_reply *reply, GError **error)
{
        gsize len = (gsize)MIN(s->left, s->what == ZERO ? ZERO_PIECE : DISK_PIECE);
        nbd_completion_callback done = disk_reply_callback(reply);
        struct nbd_handle *nbd = s->disk->nbd;
        gint64 cookie = s->what == READ    ? nbd_aio_pread(nbd, s->at, len, s->offset, done, 0)
                        : s->what == WRITE ? nbd_aio_pwrite(nbd, s->at, len, s->offset, done, 0)
                        : s->what == ZERO  ? nbd_aio_zero(nbd, len, s->offset, done, 0)
                                           : nbd_aio_flush(nbd, done, 0);

        s->offset += len;
        s->left -= len;
        s->at = s->at ? s->at + len : NULL;
        return disk_sent(s->disk, cookie, error, s->doing);
}

static gboolean await(struct stream *s, struct disk_wait *w, const struct disk_reply *reply, GError **error)
{
        while (!reply->done)
                if (!disk_wait_turn(w, -1, s->doing, error))
                        return FALSE;
        return reply->errnum == 0 || disk_fail_reply(s->disk, reply->errnum, error, s->doing);
}

/* The replies form a ring: [first, last) are under way. */
static gboolean stream_run(struct stream *s, GCancellable *cancellable, GError **error)
{
        struct disk_reply replies[DISK_IN_FLIGHT];
        scoped_disk_wait struct disk_wait w = {0};
        guint64 first = 0, last = 0;

        disk_wait_init(&w, s->disk, NULL, cancellable);
        while (s->left > 0 || first < last) {
                if (s->left > 0 && last - first < DISK_IN_FLIGHT) {
                        if (!send_piece(s, &replies[last++ % DISK_IN_FLIGHT], error))
                                return FALSE;
                } else if (!await(s, &w, &replies[first++ % DISK_IN_FLIGHT], error)) {
                        return FALSE;
                }
        }
        return TRUE;
}

gboolean disk_read(Disk *d, guint64 offset, void *buf, gsize len, GCancellable *cancellable, GError **error)
{
        struct stream s = {d, READ, offset, len, buf, "reading"};

        return disk_usable(d, offset, len, FALSE, error) && stream_run(&s, cancellable, error);
}

gboolean disk_write(Disk *d, guint64 offset, const void *buf, gsize len, GCancellable *cancellable,
                    GError **error)
{
        struct stream s = {d, WRITE, offset, len, (guint8 *)buf, "writing to"};

        return disk_usable(d, offset, len, TRUE, error) && stream_run(&s, cancellable, error);
}

gboolean disk_zero(Disk *d, guint64 offset, guint64 len, GCancellable *cancellable, GError **error)
{
        struct stream s = {d, ZERO, offset, len, NULL, "zeroing"};

        return disk_usable(d, offset, len, TRUE, error) && stream_run(&s, cancellable, error);
}

gboolean disk_flush(Disk *d, GCancellable *cancellable, GError **error)
{
        struct stream s = {d, FLUSH, 0, 0, NULL, "flushing"};
        scoped_disk_wait struct disk_wait w = {0};
        struct disk_reply reply;

        if (!disk_usable(d, 0, 0, FALSE, error) || !d->writable)
                return d->broken == NULL;
        disk_wait_init(&w, d, NULL, cancellable);
        return send_piece(&s, &reply, error) && await(&s, &w, &reply, error);
}
