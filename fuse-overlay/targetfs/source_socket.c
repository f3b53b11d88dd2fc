/* fuse-overlay/targetfs/source_socket.c - a pack's bytes, from the agent over its socket. */
#include "fuse-overlay/targetfs/source_socket.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "fuse-overlay/pack_socket.h"
#include "fuse-overlay/targetfs/read_deadline.h"
#include "proto/channel.pb-c.h"

/* An agent that restarts listens again within a second or two; there is nothing to wait on until it does. */
#define CONNECT_PAUSE_MS 200

struct source {
        PackSource base;
        struct sockaddr_un address;
        guint8 digest[32];
        GMutex lock;  /* of what follows */
        GArray *idle; /* of int: connections that nobody uses */
};

/* Waits for @events; FALSE with @error when the time is over. */
static gboolean wait_for(int fd, short events, GError **error)
{
        for (;;) {
                struct pollfd p = {fd, events, 0};
                int r = poll(&p, 1, read_deadline_left_ms());
                if (r > 0)
                        return TRUE;
                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return moult_error_errno(error, errno, "waiting for the agent");
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                            "the agent did not give the bytes within %d s", READ_WITHIN_S);
                return FALSE;
        }
}

static gboolean transfer(int fd, void *data, size_t len, gboolean sending, GError **error)
{
        guint8 *p = data;
        while (len > 0) {
                if (!wait_for(fd, sending ? POLLOUT : POLLIN, error))
                        return FALSE;
                ssize_t n = sending ? send(fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL)
                                    : recv(fd, p, len, MSG_DONTWAIT);
                if (n < 0 && (errno == EINTR || errno == EAGAIN))
                        continue;
                if (n <= 0)
                        return moult_error_errno(error, n < 0 ? errno : ECONNRESET, "asking the agent");
                p += n;
                len -= (size_t)n;
        }
        return TRUE;
}

/* A new connection; -1 with @error. */
static int connect_agent(struct source *s, GError **error)
{
        for (;;) {
                scoped_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                if (fd >= 0 && connect(fd, (const struct sockaddr *)&s->address, sizeof s->address) == 0)
                        return g_steal_fd(&fd);
                int saved = errno, left = read_deadline_left_ms();
                if (left == 0 || (saved != ECONNREFUSED && saved != ENOENT && saved != EAGAIN)) {
                        moult_error_errno(error, saved, "connecting to the agent at %s", s->address.sun_path);
                        return -1;
                }
                g_usleep((gulong)MIN(left, CONNECT_PAUSE_MS) * 1000);
        }
}

static int take_idle(struct source *s)
{
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&s->lock);
        if (s->idle->len == 0)
                return -1;
        int fd = g_array_index(s->idle, int, s->idle->len - 1);
        g_array_set_size(s->idle, s->idle->len - 1);
        return fd;
}

static void give_back(struct source *s, int fd)
{
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&s->lock);
        g_array_append_val(s->idle, fd);
}

/* TRUE: an answer came, good (then *ret_ok) or, with @error, one of the agent's. FALSE with @error: the
 * connection is no use. */
static gboolean ask(int fd, const struct pack_socket_request *request, void *buf, gboolean *ret_ok,
                    GError **error)
{
        struct pack_socket_request out = *request;
        struct pack_socket_answer in;
        char text[PACK_SOCKET_TEXT_MAX + 1];

        if (!transfer(fd, &out, sizeof out, /* sending= */ TRUE, error) ||
            !transfer(fd, &in, sizeof in, /* sending= */ FALSE, error))
                return FALSE;
        *ret_ok = in.code == 0;
        if (in.magic != PACK_SOCKET_MAGIC || (*ret_ok && in.length != request->length) ||
            (!*ret_ok && in.length > PACK_SOCKET_TEXT_MAX)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "the agent's answer makes no sense");
                return FALSE;
        }
        if (!transfer(fd, *ret_ok ? buf : text, in.length, /* sending= */ FALSE, error))
                return FALSE;
        if (*ret_ok)
                return TRUE;
        text[in.length] = '\0';
        g_set_error(error, MOULT_ERROR, in.code < MOULT_ERROR_MAX ? (int)in.code : (int)MOULT_ERROR_IO,
                    "the agent: %s", text);
        return TRUE;
}

/* An agent that restarts is gone for a second or two: it is asked again until the read must be answered. What
 * it answers, good or not, counts. */
static gboolean read_part(struct source *s, const struct pack_socket_request *request, void *buf,
                          GError **error)
{
        for (;;) {
                g_autoptr(GError) why = NULL;
                gboolean ok = FALSE;
                int fd = take_idle(s);
                gboolean used = fd >= 0;

                if (!used && (fd = connect_agent(s, error)) < 0)
                        return FALSE;
                if (ask(fd, request, buf, &ok, &why)) {
                        give_back(s, fd);
                        if (!ok)
                                g_propagate_error(error, g_steal_pointer(&why));
                        return ok;
                }
                close(fd);
                if (read_deadline_left_ms() == 0) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return FALSE;
                }
                if (!used)
                        g_usleep(CONNECT_PAUSE_MS * 1000);
        }
}

static gboolean source_read(PackSource *self, uint64_t offset, void *buf, size_t len,
                            GCancellable *cancellable, GError **error)
{
        struct source *s = (struct source *)self;
        guint8 *p = buf;

        while (len > 0) {
                struct pack_socket_request request = {.magic = PACK_SOCKET_MAGIC,
                                                      .length = (guint32)MIN(len, PACK_SOCKET_LENGTH_MAX),
                                                      .offset = offset};
                memcpy(request.manifest_digest, s->digest, sizeof s->digest);
                if (g_cancellable_set_error_if_cancelled(cancellable, error) ||
                    !read_part(s, &request, p, error))
                        return FALSE;
                p += request.length;
                offset += request.length;
                len -= request.length;
        }
        return TRUE;
}

static void source_free(PackSource *self)
{
        struct source *s = (struct source *)self;
        for (guint i = 0; i < s->idle->len; i++)
                close(g_array_index(s->idle, int, i));
        g_array_unref(s->idle);
        g_mutex_clear(&s->lock);
        g_free(s);
}

static const struct pack_source_ops ops = {.name = "agent",
                                           .kind = MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED,
                                           .read = source_read,
                                           .free = source_free};

PackSource *source_socket_new(const char *path, const guint8 manifest_digest[static 32], guint64 size)
{
        struct source *s = g_new0(struct source, 1);
        pack_source_init(&s->base, &ops, size);
        s->address.sun_family = AF_UNIX;
        g_strlcpy(s->address.sun_path, path, sizeof s->address.sun_path);
        memcpy(s->digest, manifest_digest, sizeof s->digest);
        g_mutex_init(&s->lock);
        s->idle = g_array_new(FALSE, FALSE, sizeof(int));
        return &s->base;
}
