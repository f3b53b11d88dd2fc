/* host-service/api/peers.c - the connections of one door, and making room. */
#include "host-service/api/peers.h"

struct peer {
        struct api_peers *owner;
        GIOStream *stream;
        GSocket *socket;
        /* One object for each connection: a request shows it as its remote address. */
        GSocketAddress *address;
        struct api_caller caller;
        gboolean busy;    /* a whole request is here and not answered */
        guint64 used;     /* when it was used last, in requests of everybody */
        gboolean leaving; /* was told to go */
        gulong closed_handler;
};

struct api_peers {
        SoupServer *server;
        GHashTable *peers; /* GSocketAddress -> struct peer */
        guint max;
        guint64 clock;
};

static void peer_free(gpointer data)
{
        struct peer *p = data;

        g_signal_handler_disconnect(p->stream, p->closed_handler);
        g_object_unref(p->stream);
        g_object_unref(p->socket);
        g_object_unref(p->address);
        api_caller_clear(&p->caller);
        g_free(p);
}

static void on_closed(GObject *stream, GParamSpec *spec, gpointer user)
{
        struct peer *p = user;

        if (g_io_stream_is_closed(G_IO_STREAM(stream)))
                g_hash_table_remove(p->owner->peers, p->address);
}

static struct peer *peer_of(const struct api_peers *a, SoupServerMessage *msg)
{
        GSocketAddress *address = soup_server_message_get_remote_address(msg);

        return address ? g_hash_table_lookup(a->peers, address) : NULL;
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
static struct peer *find_idle(struct api_peers *a)
{
        struct peer *best = NULL, *p;
        GHashTableIter iter;

        g_hash_table_iter_init(&iter, a->peers);
        while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&p))
                if (!p->busy && !p->leaving && (!best || p->used < best->used))
                        best = p;
        return best;
}

struct api_peers *api_peers_new(SoupServer *server, guint max)
{
        struct api_peers *a = g_new0(struct api_peers, 1);

        a->server = g_object_ref(server);
        a->max = max;
        a->peers = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, peer_free);
        g_signal_connect(server, "request-read", G_CALLBACK(on_read), a);
        g_signal_connect(server, "request-finished", G_CALLBACK(on_ended), a);
        g_signal_connect(server, "request-aborted", G_CALLBACK(on_ended), a);
        return a;
}

void api_peers_free(struct api_peers *a)
{
        if (!a)
                return;
        g_signal_handlers_disconnect_by_data(a->server, a);
        g_hash_table_unref(a->peers);
        g_object_unref(a->server);
        g_free(a);
}

void api_peers_add(struct api_peers *a, GIOStream *stream, GSocket *socket, GSocketAddress *local,
                   GSocketAddress *address, struct api_caller *caller)
{
        struct peer *p;

        if (g_hash_table_size(a->peers) >= a->max) {
                struct peer *idle = find_idle(a);

                if (!idle) { /* all are at work: this one is closed by being forgotten */
                        api_caller_clear(caller);
                        return;
                }
                /* Seen by the server as the peer's own end, so that it puts its things in order. */
                idle->leaving = TRUE;
                g_socket_shutdown(idle->socket, TRUE, TRUE, NULL);
        }
        p = g_new0(struct peer, 1);
        p->owner = a;
        p->stream = g_object_ref(stream);
        p->socket = g_object_ref(socket);
        p->address = g_object_ref(address);
        p->caller = *caller;
        *caller = (struct api_caller){0};
        p->used = ++a->clock;
        p->closed_handler = g_signal_connect(stream, "notify::closed", G_CALLBACK(on_closed), p);
        g_hash_table_insert(a->peers, p->address, p);
        if (!soup_server_accept_iostream(a->server, stream, local, p->address, NULL))
                g_hash_table_remove(a->peers, p->address);
}

void api_peers_shut(struct api_peers *a)
{
        struct peer *p;
        GHashTableIter iter;

        g_hash_table_iter_init(&iter, a->peers);
        while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&p)) {
                p->leaving = TRUE;
                g_socket_shutdown(p->socket, TRUE, TRUE, NULL);
        }
}

guint api_peers_count(const struct api_peers *a)
{
        return g_hash_table_size(a->peers);
}

const struct api_caller *api_peers_caller(const struct api_peers *a, SoupServerMessage *msg)
{
        struct peer *p = peer_of(a, msg);

        return p ? &p->caller : NULL;
}
