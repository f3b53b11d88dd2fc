/* host-service/api/connections.c - the API's Unix socket. */
#include "host-service/api/connections.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gunixsocketaddress.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "host-service/socket_group.h"

struct api_connections {
        struct api_peers *peers;
        GSocketService *service;
        char *path;
        struct stat bound; /* so that only our own file is removed at the end */
};

static gboolean incoming(GSocketService *service, GSocketConnection *conn, GObject *source, gpointer user)
{
        struct api_connections *c = user;
        g_autoptr(GSocketAddress) local = g_socket_connection_get_local_address(conn, NULL);
        g_autoptr(GSocketAddress) address =
                g_unix_socket_address_new_with_type("", 0, G_UNIX_SOCKET_ADDRESS_ANONYMOUS);
        GSocket *socket = g_socket_connection_get_socket(conn);
        g_autoptr(GCredentials) peer = g_socket_get_credentials(socket, NULL);
        struct api_caller caller = {.scope = API_SCOPE_ADMIN, .uid = (guint)-1};

        if (peer) {
                caller.uid = g_credentials_get_unix_user(peer, NULL);
                caller.pid = g_credentials_get_unix_pid(peer, NULL);
        }
        api_peers_add(c->peers, G_IO_STREAM(conn), socket, local, address, &caller);
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
        if (!ok || !socket_group_give(c->path, group, error) || !g_socket_listen(socket, error) ||
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

        c->path = g_strdup(path);
        c->peers = api_peers_new(server, API_CONNECTIONS_MAX);
        c->service = g_socket_service_new();
        if (!bind_path(c, group, error)) {
                api_connections_free(c);
                return NULL;
        }
        g_signal_connect(c->service, "incoming", G_CALLBACK(incoming), c);
        g_socket_service_start(c->service);
        return c;
}

const struct api_peers *api_connections_peers(const struct api_connections *c)
{
        return c->peers;
}

void api_connections_free(struct api_connections *c)
{
        struct stat now;

        if (!c)
                return;
        g_socket_service_stop(c->service);
        g_socket_listener_close(G_SOCKET_LISTENER(c->service));
        g_signal_handlers_disconnect_by_data(c->service, c);
        if (c->bound.st_ino && lstat(c->path, &now) == 0 && now.st_ino == c->bound.st_ino &&
            now.st_dev == c->bound.st_dev)
                unlink(c->path);
        api_peers_free(c->peers);
        g_object_unref(c->service);
        g_free(c->path);
        g_free(c);
}
