/* host-service/api/tls_listener.c - shakes hands, then hands over to the HTTP server. */
#include "host-service/api/tls_listener.h"

#include "common/error.h"

struct visitor {
        struct api_tls_listener *owner; /* NULL: it was turned away while it shook hands */
        GSocketConnection *conn;
        GTlsConnection *tls;
        GCancellable *cancellable;
        GSource *timer;
        GSource *spoken; /* waits for its first bytes; NULL: they are there */
        gboolean shaking;
};

struct api_tls_listener {
        const struct host_env *env;
        GSocketService *service;
        GTlsCertificate *certificate;
        struct api_peers *peers;
        GPtrArray *visitors; /* of struct visitor; oldest first */
        guint shaking;
};

static void visitor_free(struct visitor *v)
{
        host_timer_clear(&v->timer);
        host_timer_clear(&v->spoken);
        g_object_unref(v->conn);
        g_object_unref(v->tls);
        g_object_unref(v->cancellable);
        g_free(v);
}

static void start_more(struct api_tls_listener *l);

/* A handshake ends with CANCELLED then, and frees it. */
static void turn_away(struct visitor *v)
{
        struct api_tls_listener *l = v->owner;

        g_ptr_array_remove(l->visitors, v);
        if (!v->shaking) {
                visitor_free(v);
                return;
        }
        l->shaking--;
        host_timer_clear(&v->timer);
        v->owner = NULL;
        g_cancellable_cancel(v->cancellable);
}

static gboolean on_visit_over(gpointer user)
{
        struct visitor *v = user;
        struct api_tls_listener *l = v->owner;

        turn_away(v);
        start_more(l);
        return G_SOURCE_REMOVE;
}

static void hand_over(struct api_tls_listener *l, struct visitor *v)
{
        g_autoptr(GSocketAddress) local = g_socket_connection_get_local_address(v->conn, NULL);
        g_autoptr(GSocketAddress) remote = g_socket_connection_get_remote_address(v->conn, NULL);
        struct api_caller caller = {.network = TRUE};

        if (!local || !remote) /* it has hung up */
                return;
        caller.address = g_socket_connectable_to_string(G_SOCKET_CONNECTABLE(remote));
        api_peers_add(l->peers, G_IO_STREAM(v->tls), g_socket_connection_get_socket(v->conn), local, remote,
                      &caller);
}

static void on_shaken(GObject *source, GAsyncResult *result, gpointer user)
{
        struct visitor *v = user;
        struct api_tls_listener *l = v->owner;
        gboolean ok = g_tls_connection_handshake_finish(v->tls, result, NULL);

        if (l) {
                g_ptr_array_remove(l->visitors, v);
                l->shaking--;
                if (ok && g_tls_connection_get_protocol_version(v->tls) == G_TLS_PROTOCOL_VERSION_TLS_1_3)
                        hand_over(l, v);
        }
        visitor_free(v);
        if (l)
                start_more(l);
}

static void start_more(struct api_tls_listener *l)
{
        for (guint i = 0; i < l->visitors->len && l->shaking < API_TLS_SHAKING_MAX; i++) {
                struct visitor *v = l->visitors->pdata[i];

                if (v->spoken || v->shaking)
                        continue;
                v->shaking = TRUE;
                l->shaking++;
                g_tls_connection_handshake_async(v->tls, G_PRIORITY_DEFAULT, v->cancellable, on_shaken, v);
        }
}

static gboolean on_spoken(GSocket *socket, GIOCondition condition, gpointer user)
{
        struct visitor *v = user;

        host_timer_clear(&v->spoken);
        start_more(v->owner);
        return G_SOURCE_REMOVE;
}

static gboolean incoming(GSocketService *service, GSocketConnection *conn, GObject *source, gpointer user)
{
        struct api_tls_listener *l = user;
        g_autoptr(GIOStream) tls = g_tls_server_connection_new(G_IO_STREAM(conn), l->certificate, NULL);
        struct visitor *v;

        if (!tls)
                return TRUE;
        if (l->visitors->len >= API_TLS_VISITORS_MAX)
                turn_away(l->visitors->pdata[0]);
        v = g_new0(struct visitor, 1);
        v->owner = l;
        v->conn = g_object_ref(conn);
        v->tls = G_TLS_CONNECTION(g_steal_pointer(&tls));
        v->cancellable = g_cancellable_new();
        v->timer = host_timer_add(l->env, API_TLS_VISIT_TIME_MS, on_visit_over, v);
        v->spoken = g_socket_create_source(g_socket_connection_get_socket(conn), G_IO_IN, NULL);
        g_source_set_callback(v->spoken, G_SOURCE_FUNC(on_spoken), v, NULL);
        g_source_attach(v->spoken, l->env->context);
        g_ptr_array_add(l->visitors, v);
        return TRUE;
}

static GSocketAddress *parse_endpoint(const char *endpoint, GError **error)
{
        g_autoptr(GSocketConnectable) parsed = g_network_address_parse(endpoint, 0, NULL);
        GSocketAddress *address = NULL;

        if (parsed)
                address = g_inet_socket_address_new_from_string(
                        g_network_address_get_hostname(G_NETWORK_ADDRESS(parsed)),
                        g_network_address_get_port(G_NETWORK_ADDRESS(parsed)));
        if (!address)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "api-listen: \"%s\" is not ADDRESS:PORT with a numeric address", endpoint);
        return address;
}

struct api_tls_listener *api_tls_listener_new(const struct host_env *env, SoupServer *server,
                                              const char *endpoint, const char *pem, GError **error)
{
        struct api_tls_listener *l = g_new0(struct api_tls_listener, 1);
        g_autoptr(GSocketAddress) address = parse_endpoint(endpoint, error);

        l->env = env;
        l->visitors = g_ptr_array_new();
        l->service = g_socket_service_new();
        l->peers = api_peers_new(server, API_TLS_CONNECTIONS_MAX);
        l->certificate = address ? g_tls_certificate_new_from_pem(pem, -1, error) : NULL;
        if (!l->certificate ||
            !g_socket_listener_add_address(G_SOCKET_LISTENER(l->service), address, G_SOCKET_TYPE_STREAM,
                                           G_SOCKET_PROTOCOL_TCP, NULL, NULL, error)) {
                g_prefix_error(error, "the API's network door on %s: ", endpoint);
                api_tls_listener_free(l);
                return NULL;
        }
        g_signal_connect(l->service, "incoming", G_CALLBACK(incoming), l);
        g_socket_service_start(l->service);
        return l;
}

void api_tls_listener_free(struct api_tls_listener *l)
{
        if (!l)
                return;
        g_socket_service_stop(l->service);
        g_socket_listener_close(G_SOCKET_LISTENER(l->service));
        g_signal_handlers_disconnect_by_data(l->service, l);
        while (l->visitors->len > 0)
                turn_away(l->visitors->pdata[0]);
        g_ptr_array_unref(l->visitors);
        api_peers_free(l->peers);
        g_clear_object(&l->certificate);
        g_object_unref(l->service);
        g_free(l);
}

struct api_peers *api_tls_listener_peers(const struct api_tls_listener *l)
{
        return l->peers;
}
