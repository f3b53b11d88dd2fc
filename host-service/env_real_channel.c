/* host-service/env_real_channel.c - real sockets: connecting to QEMU's, listening for TLS. */
#include <errno.h>
#include <fcntl.h>
#include <gio/gunixsocketaddress.h>

#include "common/error.h"
#include "host-service/env_real_private.h"
#include "proto/transport_fd.h"

struct connecting {
        char *name, *path;
        host_connected_func done;
        gpointer user;
};

/* The socket's descriptor as one that a transport may own. */
static int take_fd(GSocketConnection *conn)
{
        return fcntl(g_socket_get_fd(g_socket_connection_get_socket(conn)), F_DUPFD_CLOEXEC, 3);
}

static void connected(GObject *source, GAsyncResult *res, gpointer user)
{
        struct connecting *c = user;
        g_autoptr(GError) why = NULL, error = NULL;
        g_autoptr(GSocketConnection) conn =
                g_socket_client_connect_finish(G_SOCKET_CLIENT(source), res, &why);
        int fd = conn ? take_fd(conn) : -1;

        /* A socket that nobody listens on was left by a process that was killed: as if it were not there. */
        if (!conn)
                error = g_error_new(MOULT_ERROR,
                                    g_error_matches(why, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED)
                                            ? MOULT_ERROR_NOT_FOUND
                                            : moult_error_code(why),
                                    "connecting to %s: %s", c->path, why->message);
        else if (fd < 0)
                moult_error_errno(&error, errno, "connecting to %s", c->path);
        c->done(fd >= 0 ? transport_fd_new(fd, c->name, c->path, FALSE) : NULL, error, c->user);
        g_free(c->name);
        g_free(c->path);
        g_free(c);
}

static void connect_unix(gpointer self, const char *name, const char *path, GCancellable *cancellable,
                         host_connected_func done, gpointer user)
{
        g_autoptr(GSocketClient) client = g_socket_client_new();
        g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
        struct connecting *c = g_new0(struct connecting, 1);

        c->name = g_strdup(name);
        c->path = g_strdup(path);
        c->done = done;
        c->user = user;
        g_socket_client_set_enable_proxy(client, FALSE);
        g_socket_client_connect_async(client, G_SOCKET_CONNECTABLE(address), cancellable, connected, c);
}

struct HostListener {
        GSocketService *service;
        const TlsIdentity *id;
        tls_accept_func accept;
        host_accepted_func accepted;
        gpointer user;
};

static char *peer_text(GSocketConnection *conn)
{
        g_autoptr(GSocketAddress) a = g_socket_connection_get_remote_address(conn, NULL);

        return a ? g_socket_connectable_to_string(G_SOCKET_CONNECTABLE(a)) : g_strdup("unknown address");
}

static gboolean incoming(GSocketService *service, GSocketConnection *conn, GObject *source, gpointer user)
{
        HostListener *l = user;
        g_autofree char *peer = peer_text(conn);
        int fd = take_fd(conn);

        if (fd >= 0)
                l->accepted(transport_tls_new(fd, TRUE, l->id, peer, l->accept, l->user), l->user);
        return TRUE;
}

static HostListener *listen_tls(gpointer self, const char *endpoint, const TlsIdentity *id,
                                tls_accept_func accept, host_accepted_func accepted, gpointer user,
                                GError **error)
{
        g_autoptr(GSocketConnectable) parsed = g_network_address_parse(endpoint, 0, NULL);
        g_autoptr(GSocketAddress) address = NULL;
        g_autoptr(GSocketService) service = g_socket_service_new();
        HostListener *l;

        if (parsed)
                address = g_inet_socket_address_new_from_string(
                        g_network_address_get_hostname(G_NETWORK_ADDRESS(parsed)),
                        g_network_address_get_port(G_NETWORK_ADDRESS(parsed)));
        if (!address) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "\"%s\" is not ADDRESS:PORT with a numeric address", endpoint);
                return NULL;
        }
        if (!g_socket_listener_add_address(G_SOCKET_LISTENER(service), address, G_SOCKET_TYPE_STREAM,
                                           G_SOCKET_PROTOCOL_TCP, NULL, NULL, error)) {
                g_prefix_error(error, "listening on %s: ", endpoint);
                return NULL;
        }
        l = g_new0(HostListener, 1);
        l->service = g_steal_pointer(&service);
        l->id = id;
        l->accept = accept;
        l->accepted = accepted;
        l->user = user;
        g_signal_connect(l->service, "incoming", G_CALLBACK(incoming), l);
        g_socket_service_start(l->service);
        return l;
}

static void listener_free(gpointer self, HostListener *l)
{
        if (!l)
                return;
        g_signal_handlers_disconnect_by_data(l->service, l);
        g_socket_service_stop(l->service);
        g_socket_listener_close(G_SOCKET_LISTENER(l->service));
        g_object_unref(l->service);
        g_free(l);
}

const struct host_channel_ops env_real_channel_ops = {connect_unix, listen_tls, listener_free};
