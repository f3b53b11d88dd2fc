/* host-service/guests/tls_door.c - lets agents in over the network. */
#include "host-service/guests/tls_door.h"

#include <string.h>

#include "common/events.h"

typedef struct {
        TlsDoor *door;
        GuestSession *session;
        GSource *timer;
} Visitor;

struct TlsDoor {
        const struct host_env *env;
        Catalogue *catalogue;
        const struct session_hello *hello;
        tls_door_func enter;
        gpointer user;
        GPtrArray *listeners; /* of HostListener; freed through the operations table */
        GPtrArray *visitors;  /* of Visitor, owned; oldest first */
};

static void visitor_free(gpointer p)
{
        Visitor *v = p;

        host_timer_clear(&v->timer);
        guest_session_free(v->session);
        g_free(v);
}

static gboolean accept_key(const guint8 fingerprint[static DIGEST_SIZE], gpointer user)
{
        TlsDoor *d = user;
        g_autoptr(VmRecord) vm = catalogue_vm_by_pin(d->catalogue, fingerprint, NULL);

        return vm != NULL || catalogue_vm_join_pending(d->catalogue);
}

/* Whose agent this is, or NULL. */
static VmRecord *identify(TlsDoor *d, const guint8 *fingerprint, const Moult__Hello *peer)
{
        g_autoptr(VmRecord) vm = fingerprint ? catalogue_vm_by_pin(d->catalogue, fingerprint, NULL) : NULL;
        g_autofree char *token = NULL;

        if (vm || !fingerprint || peer->join_token.len == 0)
                return g_steal_pointer(&vm);
        token = message_string(peer->join_token);
        return catalogue_vm_join(d->catalogue, token, fingerprint, NULL);
}

static gboolean on_established(GuestSession *gs, const Moult__Hello *peer, gpointer user)
{
        Visitor *v = user;
        TlsDoor *d = v->door;
        Session *s = guest_session_get(gs);
        g_autoptr(VmRecord) vm = identify(d, session_peer_fingerprint(s), peer);

        if (!vm) {
                event_log(EVENT_WARNING, "guest-unknown",
                          "an agent whose key is not known was turned away; the VMs are unaffected", "peer",
                          session_peer(s), NULL);
                return FALSE;
        }
        v->session = NULL;
        g_ptr_array_remove(d->visitors, v);
        d->enter(vm->name, gs, peer, d->user);
        return TRUE;
}

static void on_lost(GuestSession *gs, gpointer user)
{
}

static void on_closed(GuestSession *gs, const GError *why, gboolean misbehaved, gpointer user)
{
        Visitor *v = user;

        g_ptr_array_remove(v->door->visitors, v);
}

/* Nothing comes here: a visitor becomes somebody, or goes, when its session is established. */
static void on_state(GuestSession *gs, const Moult__TransactionState *state, gpointer user)
{
}

static void on_upgrade_request(GuestSession *gs, const Message *request, gpointer user)
{
}

static FetchPack *find_no_pack(GuestSession *gs, const guint8 *digest, gsize len, gpointer user)
{
        return NULL;
}

static const struct guest_session_events visitor_events = {
        .established = on_established,
        .lost = on_lost,
        .closed = on_closed,
        .state = on_state,
        .upgrade_request = on_upgrade_request,
        .find_pack = find_no_pack,
};

static gboolean on_visit_over(gpointer user)
{
        Visitor *v = user;

        g_ptr_array_remove(v->door->visitors, v);
        return G_SOURCE_REMOVE;
}

static void on_accepted(Transport *transport, gpointer user)
{
        TlsDoor *d = user;
        Visitor *v = g_new0(Visitor, 1);

        /* The oldest goes: a crowd of strangers must not keep an agent out for longer than it takes to shake
         * hands. */
        if (d->visitors->len >= TLS_VISITORS_MAX)
                g_ptr_array_remove_index(d->visitors, 0);
        v->door = d;
        v->timer = host_timer_add(d->env, TLS_VISIT_TIME_MS, on_visit_over, v);
        v->session = guest_session_new(d->env, transport, d->hello, &visitor_events, v);
        g_ptr_array_add(d->visitors, v);
        guest_session_start(v->session);
}

TlsDoor *tls_door_new(const struct host_env *env, Catalogue *c, const TlsIdentity *identity,
                      const char *const *endpoints, const struct session_hello *hello, tls_door_func enter,
                      gpointer user, GError **error)
{
        g_autoptr(TlsDoor) d = g_new0(TlsDoor, 1);

        d->env = env;
        d->catalogue = c;
        d->hello = hello;
        d->enter = enter;
        d->user = user;
        d->listeners = g_ptr_array_new();
        d->visitors = g_ptr_array_new_with_free_func(visitor_free);
        for (guint i = 0; endpoints && endpoints[i]; i++) {
                HostListener *l = env->channel->listen_tls(env->self, endpoints[i], identity, accept_key,
                                                           on_accepted, d, error);

                if (!l) {
                        g_prefix_error(error, "listening for agents on %s: ", endpoints[i]);
                        return NULL;
                }
                g_ptr_array_add(d->listeners, l);
        }
        return g_steal_pointer(&d);
}

void tls_door_free(TlsDoor *d)
{
        if (!d)
                return;
        for (guint i = 0; i < d->listeners->len; i++)
                d->env->channel->listener_free(d->env->self, d->listeners->pdata[i]);
        g_ptr_array_unref(d->listeners);
        g_ptr_array_unref(d->visitors);
        g_free(d);
}
