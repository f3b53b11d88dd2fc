/* guest-agent/pack_server.c - gives the bytes of the pack that is being pushed to the servers of merges. */
#include "guest-agent/pack_server.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "common/fd.h"
#include "fuse-overlay/pack_socket.h"

struct PackServer {
        char *path;
        int fd;
        guint watch;
        GMutex lock; /* of all below */
        GCond ended; /* a connection has, or a read */
        guint reading;
        PackSource *source;
        guint8 digest[32];
        GCancellable *cancellable; /* of what is read from `source` */
        GArray *connections;       /* of int */
};

struct connection {
        PackServer *server;
        int fd;
};

/* --- one connection, in its thread --- */

static gboolean transfer(int fd, void *data, size_t len, gboolean sending)
{
        guint8 *p = data;
        while (len > 0) {
                ssize_t n = sending ? send(fd, p, len, MSG_NOSIGNAL) : recv(fd, p, len, 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return FALSE;
                p += n;
                len -= (size_t)n;
        }
        return TRUE;
}

/* Pure: NULL if it may be acted on. */
static const char *request_refusal(const struct pack_socket_request *r)
{
        if (r->magic != PACK_SOCKET_MAGIC)
                return "it is not a request for bytes of a pack";
        if (r->length == 0 || r->length > PACK_SOCKET_LENGTH_MAX)
                return "the number of bytes is out of range";
        return NULL;
}

/* The source of the pack that is asked for, with a reference each; FALSE with @error. */
static gboolean find_source(PackServer *s, const guint8 digest[static 32], PackSource **ret_source,
                            GCancellable **ret_cancellable, GError **error)
{
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&s->lock);
        if (s->source == NULL || memcmp(s->digest, digest, sizeof s->digest) != 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "this pack is not being pushed now");
                return FALSE;
        }
        *ret_source = pack_source_ref(s->source);
        *ret_cancellable = g_object_ref(s->cancellable);
        s->reading++;
        return TRUE;
}

static void end_reading(PackServer *s)
{
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&s->lock);
        s->reading--;
        g_cond_broadcast(&s->ended);
}

static gboolean read_bytes(PackServer *s, const struct pack_socket_request *r, void *buf, GError **error)
{
        PackSource *source = NULL;
        g_autoptr(GCancellable) cancellable = NULL;

        if (!find_source(s, r->manifest_digest, &source, &cancellable, error))
                return FALSE;
        gboolean ok = pack_source_read(source, r->offset, buf, r->length, cancellable, error);
        pack_source_unref(
                source); /* before whoever waits for the end of reading takes away what is behind it */
        end_reading(s);
        return ok;
}

static gboolean answer(PackServer *s, int fd, const struct pack_socket_request *r)
{
        g_autofree guint8 *buf = g_malloc(r->length);
        g_autoptr(GError) error = NULL;
        struct pack_socket_answer head = {.magic = PACK_SOCKET_MAGIC};

        fault_point("pack-answer");
        if (read_bytes(s, r, buf, &error)) {
                head.length = r->length;
                return transfer(fd, &head, sizeof head, /* sending= */ TRUE) &&
                       transfer(fd, buf, r->length, /* sending= */ TRUE);
        }
        MoultError code = moult_error_code(error);
        if (code == MOULT_ERROR_CANCELLED) /* we end, or the push does: whoever asks again hears which */
                return FALSE;
        head.code = code != MOULT_ERROR_UNSPECIFIED ? code : MOULT_ERROR_IO; /* 0 means success */
        head.length = (guint32)MIN(strlen(error->message), PACK_SOCKET_TEXT_MAX);
        return transfer(fd, &head, sizeof head, /* sending= */ TRUE) &&
               transfer(fd, error->message, head.length, /* sending= */ TRUE);
}

static void forget(PackServer *s, int fd)
{
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&s->lock);
        for (guint i = 0; i < s->connections->len; i++)
                if (g_array_index(s->connections, int, i) == fd) {
                        g_array_remove_index_fast(s->connections, i);
                        break;
                }
        close(fd); /* under the lock: the number is not used again while pack_server_free() may shut it down
                    */
        g_cond_broadcast(&s->ended);
}

static gpointer serve(gpointer user)
{
        struct connection *c = user;
        struct pack_socket_request r;

        while (transfer(c->fd, &r, sizeof r, /* sending= */ FALSE)) {
                const char *why = request_refusal(&r);
                if (why != NULL) {
                        event_log(EVENT_WARNING, "agent-pack-request-refused", why, NULL);
                        break;
                }
                if (!answer(c->server, c->fd, &r))
                        break;
        }
        forget(c->server, c->fd);
        g_free(c);
        return NULL;
}

/* --- the listener, in the main loop --- */

static gboolean is_allowed(int fd)
{
        struct ucred cred;
        socklen_t len = sizeof cred;

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
               (cred.uid == 0 || cred.uid == geteuid());
}

static gboolean on_connection(gint listener, GIOCondition condition, gpointer user)
{
        PackServer *s = user;
        scoped_fd int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0)
                return G_SOURCE_CONTINUE;
        g_mutex_lock(&s->lock);
        gboolean room = is_allowed(fd) && s->connections->len < PACK_SERVER_CONNECTIONS_MAX;
        if (room)
                g_array_append_val(s->connections, fd);
        g_mutex_unlock(&s->lock);
        if (!room) {
                event_log(EVENT_WARNING, "agent-pack-request-refused",
                          "a reader of the pack was turned away: it is not root's, or too many are connected",
                          NULL);
                return G_SOURCE_CONTINUE;
        }
        struct connection *c = g_new(struct connection, 1);
        *c = (struct connection){s, g_steal_fd(&fd)};
        g_thread_unref(g_thread_new("pack-server", serve, c));
        return G_SOURCE_CONTINUE;
}

static gboolean listen_at(PackServer *s, GError **error)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        g_autofree char *dir = g_path_get_dirname(s->path);

        if (strlen(s->path) >= sizeof address.sun_path) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "pack socket %s: the path is too long",
                            s->path);
                return FALSE;
        }
        strcpy(address.sun_path, s->path);
        if (g_mkdir_with_parents(dir, 0755) < 0)
                return moult_error_errno(error, errno, "making %s for the pack socket", dir);
        if (unlink(s->path) < 0 && errno != ENOENT)
                return moult_error_errno(error, errno, "removing the old pack socket %s", s->path);
        s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (s->fd < 0)
                return moult_error_errno(error, errno, "making the pack socket");
        mode_t mask = umask(0177); /* 0600 from its birth; only the main thread makes files at this time */
        int r = bind(s->fd, (struct sockaddr *)&address, sizeof address);
        umask(mask);
        if (r < 0 || listen(s->fd, (int)PACK_SERVER_CONNECTIONS_MAX) < 0)
                return moult_error_errno(error, errno, "listening on the pack socket %s", s->path);
        return TRUE;
}

PackServer *pack_server_new(const char *path, GError **error)
{
        g_autoptr(PackServer) s = g_new0(PackServer, 1);
        s->path = g_strdup(path);
        s->fd = -1;
        s->cancellable = g_cancellable_new();
        s->connections = g_array_new(FALSE, FALSE, sizeof(int));
        g_mutex_init(&s->lock);
        g_cond_init(&s->ended);
        if (!listen_at(s, error))
                return NULL;
        GSource *source = g_unix_fd_source_new(s->fd, G_IO_IN);
        g_source_set_callback(source, G_SOURCE_FUNC(on_connection), s, NULL);
        s->watch = g_source_attach(source, g_main_context_get_thread_default());
        g_source_unref(source);
        return g_steal_pointer(&s);
}

void pack_server_set(PackServer *s, const guint8 manifest_digest[static 32], PackSource *source)
{
        g_autoptr(GCancellable) old = NULL;
        g_autoptr(PackSource) before = NULL;

        g_mutex_lock(&s->lock);
        old = g_steal_pointer(&s->cancellable);
        before = g_steal_pointer(&s->source);
        s->cancellable = g_cancellable_new();
        g_mutex_unlock(&s->lock);
        g_cancellable_cancel(old);
        g_mutex_lock(&s->lock);
        while (s->reading > 0)
                g_cond_wait(&s->ended, &s->lock);
        s->source = source != NULL ? pack_source_ref(source) : NULL;
        memcpy(s->digest, manifest_digest, sizeof s->digest);
        g_mutex_unlock(&s->lock);
}

const char *pack_server_path(const PackServer *s)
{
        return s->path;
}

/* Reads end, and with them the threads. */
static void end_connections(PackServer *s)
{
        g_mutex_lock(&s->lock);
        g_cancellable_cancel(s->cancellable);
        for (guint i = 0; i < s->connections->len; i++)
                shutdown(g_array_index(s->connections, int, i), SHUT_RDWR);
        while (s->connections->len > 0)
                g_cond_wait(&s->ended, &s->lock);
        g_mutex_unlock(&s->lock);
}

void pack_server_free(PackServer *s)
{
        if (s == NULL)
                return;
        if (s->watch != 0) {
                GSource *source =
                        g_main_context_find_source_by_id(g_main_context_get_thread_default(), s->watch);
                if (source != NULL)
                        g_source_destroy(source);
        }
        end_connections(s);
        if (s->fd >= 0) {
                unlink(s->path);
                close(s->fd);
        }
        pack_source_unref(s->source);
        g_object_unref(s->cancellable);
        g_array_unref(s->connections);
        g_mutex_clear(&s->lock);
        g_cond_clear(&s->ended);
        g_free(s->path);
        g_free(s);
}
