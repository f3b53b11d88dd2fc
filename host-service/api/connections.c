/* host-service/api/connections.c - accepting on the Unix socket, and making room. */
#include "host-service/api/connections.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gunixsocketaddress.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"

struct peer {
        struct api_connections *owner;
        GSocketConnection *conn;
        /* One object for each connection: a request shows it as its remote address. */
        GSocketAddress *address;
        gboolean busy;    /* a whole request is here and not answered */
        guint64 used;     /* when it was used last, in requests of everybody */
        gboolean leaving; /* was told to go */
        gulong closed_handler;
};

struct api_connections {
        SoupServer *server;
        GSocketService *service;
        char *path;
        struct stat bound; /* so that only our own file is removed at the end */
        GHashTable *peers; /* GSocketAddress -> struct peer */
        guint64 clock;
};

static void peer_free(struct peer *p)
{
        g_signal_handler_disconnect(p->conn, p->closed_handler);
        g_object_unref(p->conn);
        g_object_unref(p->address);
        g_free(p);
}

static void on_closed(GObject *stream, GParamSpec *spec, gpointer user)
{
        struct peer *p = user;

        if (g_io_stream_is_closed(G_IO_STREAM(stream)))
                g_hash_table_remove(p->owner->peers, p->address);
}

static struct peer *peer_of(struct api_connections *c, SoupServerMessage *msg)
{
        return g_hash_table_lookup(c->peers, soup_server_message_get_remote_address(msg));
}

static void on_read(SoupServer *server, SoupServerMessage *msg, gpointer user)
{
        struct peer *p = peer_of(user, msg);

        if (p) {
                p->busy = TRUE;
                p->used = ++p->owner->clock;
        }
}

static void on_ended(SoupServer *server, SoupServerMessage *msg, gpointer user)
{
        struct peer *p = peer_of(user, msg);

        if (p) {
                p->busy = FALSE;
                p->used = ++p->owner->clock;
        }
}

/* The connection that has waited longest for a whole request, or NULL. */
static struct peer *find_idle(struct api_connections *c)
{
        struct peer *best = NULL, *p;
        GHashTableIter iter;

        g_hash_table_iter_init(&iter, c->peers);
        while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&p))
                if (!p->busy && !p->leaving && (!best || p->used < best->used))
                        best = p;
        return best;
}

static gboolean incoming(GSocketService *service, GSocketConnection *conn, GObject *source, gpointer user)
{
        struct api_connections *c = user;
        g_autoptr(GSocketAddress) local = g_socket_connection_get_local_address(conn, NULL);
        g_autoptr(GError) error = NULL;
        struct peer *p;

        if (g_hash_table_size(c->peers) >= API_CONNECTIONS_MAX) {
                struct peer *idle = find_idle(c);

                if (!idle)
                        return TRUE; /* all are at work: this one is closed by being forgotten */
                /* Seen by the server as the peer's own end, so that it puts its things in order. */
                idle->leaving = TRUE;
                g_socket_shutdown(g_socket_connection_get_socket(idle->conn), TRUE, TRUE, NULL);
        }
        p = g_new0(struct peer, 1);
        p->owner = c;
        p->conn = g_object_ref(conn);
        p->address = g_unix_socket_address_new_with_type("", 0, G_UNIX_SOCKET_ADDRESS_ANONYMOUS);
        p->used = ++c->clock;
        p->closed_handler = g_signal_connect(conn, "notify::closed", G_CALLBACK(on_closed), p);
        g_hash_table_insert(c->peers, p->address, p);
        if (!soup_server_accept_iostream(c->server, G_IO_STREAM(conn), local, p->address, &error))
                g_hash_table_remove(c->peers, p->address);
        return TRUE;
}

/* Removes what a killed daemon left at @path. */
static gboolean clear_path(const char *path, GSocketAddress *address, GError **error)
{
        g_autoptr(GSocket) probe = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, 0, NULL);
        struct stat st;

        if (lstat(path, &st) < 0)
                return errno == ENOENT || moult_error_errno(error, errno, "looking at the socket %s", path);
        if (!S_ISSOCK(st.st_mode)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s is in the way and is no socket; nothing was removed: choose another --socket",
                            path);
                return FALSE;
        }
        if (probe && g_socket_connect(probe, address, NULL, NULL)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "another service answers at %s; stop it, or choose another --socket", path);
                return FALSE;
        }
        if (unlink(path) < 0)
                return moult_error_errno(error, errno, "removing the old socket %s", path);
        return TRUE;
}

static gboolean give_to_group(const char *path, const char *group, GError **error)
{
        struct group *g = group ? getgrnam(group) : NULL;

        if (!group)
                return TRUE;
        if (!g) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "socket-group: there is no group \"%s\"", group);
                return FALSE;
        }
        if (lchown(path, (uid_t)-1, g->gr_gid) < 0)
                return moult_error_errno(error, errno, "giving %s to the group %s", path, group);
        return TRUE;
}

static gboolean bind_path(struct api_connections *c, const char *group, GError **error)
{
        g_autoptr(GSocketAddress) address = g_unix_socket_address_new(c->path);
        g_autoptr(GSocket) socket = NULL;
        g_autofree char *dir = g_path_get_dirname(c->path);
        mode_t old;
        gboolean ok;

        if (g_mkdir_with_parents(dir, 0755) < 0)
                return moult_error_errno(error, errno, "making the directory %s", dir);
        if (!clear_path(c->path, address, error))
                return FALSE;
        socket = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, 0, error);
        if (!socket)
                return FALSE;
        g_socket_set_listen_backlog(socket, API_CONNECTIONS_MAX);
        /* Never open to others, not even between bind and chmod. We are alone: no thread runs yet. */
        old = umask(0117);
        ok = g_socket_bind(socket, address, FALSE, error);
        umask(old);
        if (!ok || !give_to_group(c->path, group, error) || !g_socket_listen(socket, error) ||
            !g_socket_listener_add_socket(G_SOCKET_LISTENER(c->service), socket, NULL, error)) {
                g_prefix_error(error, "listening on %s: ", c->path);
                return FALSE;
        }
        if (lstat(c->path, &c->bound) < 0)
                return moult_error_errno(error, errno, "looking at the socket %s", c->path);
        return TRUE;
}

struct api_connections *api_connections_new(SoupServer *server, const char *path, const char *group,
                                            GError **error)
{
        struct api_connections *c = g_new0(struct api_connections, 1);

        c->server = g_object_ref(server);
        c->path = g_strdup(path);
        c->peers = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, (GDestroyNotify)peer_free);
        c->service = g_socket_service_new();
        if (!bind_path(c, group, error)) {
                api_connections_free(c);
                return NULL;
        }
        g_signal_connect(c->service, "incoming", G_CALLBACK(incoming), c);
        g_signal_connect(server, "request-read", G_CALLBACK(on_read), c);
        g_signal_connect(server, "request-finished", G_CALLBACK(on_ended), c);
        g_signal_connect(server, "request-aborted", G_CALLBACK(on_ended), c);
        g_socket_service_start(c->service);
        return c;
}

guint api_connections_count(const struct api_connections *c)
{
        return g_hash_table_size(c->peers);
}

void api_connections_free(struct api_connections *c)
{
        struct stat now;

        if (!c)
                return;
        g_socket_service_stop(c->service);
        g_socket_listener_close(G_SOCKET_LISTENER(c->service));
        g_signal_handlers_disconnect_by_data(c->service, c);
        g_signal_handlers_disconnect_by_data(c->server, c);
        if (c->bound.st_ino && lstat(c->path, &now) == 0 && now.st_ino == c->bound.st_ino &&
            now.st_dev == c->bound.st_dev)
                unlink(c->path);
        g_hash_table_unref(c->peers);
        g_object_unref(c->service);
        g_object_unref(c->server);
        g_free(c->path);
        g_free(c);
}
