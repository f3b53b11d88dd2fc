/* guest-agent/link_tls.c - dials, with patience. */
#include "guest-agent/link_tls.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "proto/transport_tls.h"

#define RETRY_FIRST_MS    250u
#define RETRY_LONGEST_MS  60000u
#define CONNECT_TIMEOUT_S 15u
#define DEFAULT_PORT      7878

struct LinkTls {
        Peers *peers;
        const TlsIdentity *identity;
        const HostPin *pin;
        char *address;
        void (*established)(gpointer user);
        gpointer user;
        GSocketClient *client;
        GCancellable *dialling; /* NULL: not */
        Peer *peer;
        guint timer;
        unsigned retry_ms, attempt;
};

static void dial(LinkTls *l);

static const char *next_address(LinkTls *l)
{
        const char *const *learned = host_pin_endpoints(l->pin);
        guint n = g_strv_length((char **)learned), first = l->address[0] ? 1 : 0;
        unsigned at;

        if (first + n == 0)
                return NULL;
        at = l->attempt++ % (first + n);
        return at < first ? l->address : learned[at - first];
}

static gboolean on_timer(gpointer user)
{
        LinkTls *l = user;

        l->timer = 0;
        dial(l);
        return G_SOURCE_REMOVE;
}

static void retry_later(LinkTls *l)
{
        guint jitter = (guint)g_random_int_range(0, (gint)l->retry_ms / 2 + 1);

        g_clear_handle_id(&l->timer, g_source_remove);
        l->timer = g_timeout_add(l->retry_ms + jitter, on_timer, l);
        l->retry_ms = MIN(2 * l->retry_ms, RETRY_LONGEST_MS);
}

static void on_established(Peer *p, const Moult__Hello *hello, gpointer user)
{
        LinkTls *l = user;

        l->retry_ms = RETRY_FIRST_MS;
        l->attempt = 0;
        l->established(l->user);
}

static void on_closed(Peer *p, const GError *why, gpointer user)
{
        LinkTls *l = user;

        event_log(EVENT_INFO, "agent-tls-closed", why ? why->message : "closed", NULL);
        l->peer = NULL;
        retry_later(l);
}

static gboolean accept_host(const guint8 fingerprint[static DIGEST_SIZE], gpointer user)
{
        LinkTls *l = user;
        const guint8 *pinned = host_pin_fingerprint(l->pin);

        if (pinned && memcmp(pinned, fingerprint, DIGEST_SIZE) == 0)
                return TRUE;
        event_log(EVENT_WARNING, "agent-host-unknown",
                  "the host at the other end of the network has another key than the one that is pinned; not "
                  "talked to",
                  NULL);
        return FALSE;
}

static void use_connection(LinkTls *l, GSocketConnection *connection)
{
        static const struct peer_link link = {on_established, on_closed};
        GSocket *socket = g_socket_connection_get_socket(connection);
        g_autoptr(GSocketAddress) remote = g_socket_connection_get_remote_address(connection, NULL);
        g_autofree char *name =
                remote ? g_socket_connectable_to_string(G_SOCKET_CONNECTABLE(remote)) : g_strdup("host");
        int fd = fcntl(g_socket_get_fd(socket), F_DUPFD_CLOEXEC, 3); /* the GSocket closes its own */

        if (fd < 0) {
                retry_later(l);
                return;
        }
        l->peer = peers_add(
                l->peers, transport_tls_new(fd, /* is_server= */ FALSE, l->identity, name, accept_host, l),
                MOULT__ROLE__ROLE_HOST, MOULT__SOURCE_KIND__SOURCE_TLS, host_pin_secret(l->pin), &link, l);
}

static void on_connected(GObject *client, GAsyncResult *result, gpointer user)
{
        LinkTls *l = user;
        g_autoptr(GError) error = NULL;
        g_autoptr(GSocketConnection) connection =
                g_socket_client_connect_to_host_finish(G_SOCKET_CLIENT(client), result, &error);

        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
                return; /* @l is gone */
        g_clear_object(&l->dialling);
        if (!connection) {
                event_log(EVENT_INFO, "agent-tls-unreachable", error->message, NULL);
                retry_later(l);
                return;
        }
        use_connection(l, connection);
}

static void dial(LinkTls *l)
{
        const char *address;

        if (l->peer || l->dialling || !host_pin_fingerprint(l->pin))
                return;
        address = next_address(l);
        if (!address)
                return;
        l->dialling = g_cancellable_new();
        g_socket_client_connect_to_host_async(l->client, address, DEFAULT_PORT, l->dialling, on_connected, l);
}

LinkTls *link_tls_new(Peers *peers, const TlsIdentity *identity, const HostPin *pin, const char *address,
                      void (*established)(gpointer user), gpointer user)
{
        LinkTls *l = g_new0(LinkTls, 1);

        l->peers = peers;
        l->identity = identity;
        l->pin = pin;
        l->address = g_strdup(address);
        l->established = established;
        l->user = user;
        l->retry_ms = RETRY_FIRST_MS;
        l->client = g_socket_client_new();
        g_socket_client_set_enable_proxy(l->client, FALSE);
        g_socket_client_set_timeout(l->client, CONNECT_TIMEOUT_S);
        dial(l);
        return l;
}

void link_tls_free(LinkTls *l)
{
        if (!l)
                return;
        g_clear_handle_id(&l->timer, g_source_remove);
        if (l->dialling)
                g_cancellable_cancel(l->dialling);
        g_clear_object(&l->dialling);
        if (l->peer)
                peers_remove(l->peers, l->peer);
        g_object_unref(l->client);
        g_free(l->address);
        g_free(l);
}

void link_tls_kick(LinkTls *l)
{
        g_clear_handle_id(&l->timer, g_source_remove);
        l->retry_ms = RETRY_FIRST_MS;
        l->attempt = 0;
        dial(l);
}
