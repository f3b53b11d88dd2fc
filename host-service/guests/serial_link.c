/* host-service/guests/serial_link.c - keeps a session over one VM's virtio port. */
#include "host-service/guests/serial_link.h"

#define RETRY_FIRST_MS   250u
#define RETRY_LONGEST_MS 10000u
#define VIRT_LONGEST_MS  60000u /* libvirt says when a domain starts; this is for what we might miss */
#define CHANNEL          "org.moult.agent.0"
#define PENALTY_FIRST_MS 5000u
#define PENALTY_MAX_MS   60000u
/* After this long without a complaint a guest is as good as new. */
#define FORGIVE_US (5 * 60 * G_USEC_PER_SEC)

struct SerialLink {
        const struct host_env *env;
        char *path;
        VirtDomain *domain; /* NULL: there is a path */
        const struct session_hello *hello;
        const struct guest_session_events *events;
        gpointer user;
        GuestSession *session;
        GCancellable *connecting;
        GSource *retry;
        guint retry_ms, penalty_ms;
        gboolean punished; /* the present wait is a penalty */
        gint64 misbehaved_us;
};

static void connect_now(SerialLink *l);

static gboolean on_retry(gpointer user)
{
        SerialLink *l = user;

        host_timer_clear(&l->retry);
        l->punished = FALSE;
        connect_now(l);
        return G_SOURCE_REMOVE;
}

static void retry_after(SerialLink *l, guint delay_ms)
{
        host_timer_clear(&l->retry);
        l->retry = host_timer_add(l->env, delay_ms, on_retry, l);
}

static void retry_later(SerialLink *l)
{
        retry_after(l, l->retry_ms);
        l->retry_ms = MIN(l->retry_ms * 2, l->domain ? VIRT_LONGEST_MS : RETRY_LONGEST_MS);
}

static gboolean on_established(GuestSession *gs, const Moult__Hello *peer, gpointer user)
{
        SerialLink *l = user;

        l->retry_ms = RETRY_FIRST_MS;
        return l->events->established(gs, peer, l->user);
}

static void on_lost(GuestSession *gs, gpointer user)
{
        SerialLink *l = user;

        l->events->lost(gs, l->user);
}

static void on_closed(GuestSession *gs, const GError *why, gboolean misbehaved, gpointer user)
{
        SerialLink *l = user;
        gint64 now_us = host_monotonic_us(l->env);

        l->session = NULL;
        if (misbehaved) {
                if (now_us - l->misbehaved_us > FORGIVE_US || !l->misbehaved_us)
                        l->penalty_ms = PENALTY_FIRST_MS;
                l->misbehaved_us = now_us;
                retry_after(l, l->penalty_ms);
                l->punished = TRUE;
                l->penalty_ms = MIN(l->penalty_ms * 2, PENALTY_MAX_MS);
        } else {
                retry_later(l);
        }
        l->events->closed(gs, why, misbehaved, l->user);
        guest_session_free(gs);
}

static void on_state(GuestSession *gs, const Moult__TransactionState *state, gpointer user)
{
        SerialLink *l = user;

        l->events->state(gs, state, l->user);
}

static void on_upgrade_request(GuestSession *gs, const Message *request, gpointer user)
{
        SerialLink *l = user;

        l->events->upgrade_request(gs, request, l->user);
}

static FetchPack *on_find_pack(GuestSession *gs, const guint8 *digest, gsize len, gpointer user)
{
        SerialLink *l = user;

        return l->events->find_pack(gs, digest, len, l->user);
}

static const struct guest_session_events link_events = {
        .established = on_established,
        .lost = on_lost,
        .closed = on_closed,
        .state = on_state,
        .upgrade_request = on_upgrade_request,
        .find_pack = on_find_pack,
};

/* An attempt that the link may not live to see the end of. */
typedef struct {
        SerialLink *link;
        GCancellable *cancel;
} Attempt;

static void on_connected(Transport *transport, const GError *error, gpointer user)
{
        Attempt *a = user;
        SerialLink *l = a->link;

        if (g_cancellable_is_cancelled(a->cancel)) {
                transport_free(transport);
        } else {
                g_clear_object(&l->connecting);
                if (transport) {
                        l->session = guest_session_new(l->env, transport, l->hello, &link_events, l);
                        guest_session_start(l->session);
                } else {
                        retry_later(l);
                }
        }
        g_object_unref(a->cancel);
        g_free(a);
}

static void connect_now(SerialLink *l)
{
        Attempt *a = g_new0(Attempt, 1);

        l->connecting = g_cancellable_new();
        a->link = l;
        a->cancel = g_object_ref(l->connecting);
        if (l->domain)
                l->env->virt->open_channel(l->domain, CHANNEL, l->connecting, on_connected, a);
        else
                l->env->channel->connect_unix(l->env->self, "virtio-serial", l->path, l->connecting,
                                              on_connected, a);
}

/* What we wait for has happened, so the wait is over; but for a penalty, which is the guest's own doing. */
static void on_virt_event(VirtEvent event, const char *detail, const char *data, gpointer user)
{
        SerialLink *l = user;

        if ((event != VIRT_STARTED && event != VIRT_CONNECTED) || l->punished)
                return;
        l->retry_ms = RETRY_FIRST_MS;
        if (l->retry)
                retry_after(l, 0);
}

SerialLink *serial_link_new(const struct host_env *env, const struct serial_port *port,
                            const struct session_hello *hello, const struct guest_session_events *events,
                            gpointer user)
{
        SerialLink *l = g_new0(SerialLink, 1);

        l->env = env;
        l->path = g_strdup(port->path);
        if (!port->path)
                l->domain = env->virt->domain_new(env->self, port->libvirt, port->domain, on_virt_event, l);
        l->hello = hello;
        l->events = events;
        l->user = user;
        l->retry_ms = RETRY_FIRST_MS;
        l->penalty_ms = PENALTY_FIRST_MS;
        connect_now(l);
        return l;
}

void serial_link_free(SerialLink *l)
{
        if (!l)
                return;
        if (l->connecting)
                g_cancellable_cancel(l->connecting);
        g_clear_object(&l->connecting);
        host_timer_clear(&l->retry);
        guest_session_free(l->session);
        if (l->domain)
                l->env->virt->domain_free(l->domain);
        g_free(l->path);
        g_free(l);
}

GuestSession *serial_link_session(SerialLink *l)
{
        return l ? l->session : NULL;
}
