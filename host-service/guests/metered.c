/* host-service/guests/metered.c - a transport with a budget for what its peer sends. */
#include "host-service/guests/metered.h"

#include "common/error.h"
#include "host-service/guests/budget.h"

#define CREDIT_MAX (4u * 1024u * 1024u)

typedef struct {
        Transport base;
        const struct host_env *env;
        Transport *inner;
        struct budget bytes;
        gsize credit; /* asked for and not yet come; at most a few answers' worth */
        gboolean flooded;
} Metered;

static G_DEFINE_QUARK(moult - guest - flood, flood)

        gboolean metered_error_is_flood(const GError *error)
{
        return error && error->domain == flood_quark();
}

/* The budget first: unused credit is worth nothing to a guest that keeps within it. */
static gboolean afford(Metered *m, gsize len)
{
        if (budget_take(&m->bytes, len, host_monotonic_us(m->env)))
                return TRUE;
        if (len > m->credit)
                return FALSE;
        m->credit -= len;
        return TRUE;
}

static void on_bytes(gpointer user, const void *data, size_t len)
{
        Metered *m = user;
        g_autoptr(GError) error = NULL;

        if (m->flooded)
                return;
        if (afford(m, len)) {
                m->base.events->bytes(m->base.user, data, len);
                return;
        }
        m->flooded = TRUE;
        error = g_error_new(flood_quark(), MOULT_ERROR_REFUSED,
                            "the guest sends more than %u bytes a second: its session is reset",
                            GUEST_BYTES_RATE);
        m->base.events->status(m->base.user, TRANSPORT_CLOSED, error);
}

static void on_writable(gpointer user)
{
        Metered *m = user;

        if (!m->flooded && m->base.events->writable)
                m->base.events->writable(m->base.user);
}

static void on_status(gpointer user, TransportStatus status, const GError *error)
{
        Metered *m = user;

        if (!m->flooded)
                m->base.events->status(m->base.user, status, error);
}

static const struct transport_events inner_events = {
        .bytes = on_bytes,
        .writable = on_writable,
        .status = on_status,
};

static void metered_start(Transport *t)
{
        transport_start(((Metered *)t)->inner);
}

static void metered_send(Transport *t, GBytes *frame)
{
        if (!((Metered *)t)->flooded)
                transport_send(((Metered *)t)->inner, frame);
}

static gsize metered_queued(Transport *t)
{
        return transport_queued(((Metered *)t)->inner);
}

static const char *metered_peer(Transport *t)
{
        Transport *inner = ((Metered *)t)->inner;

        return inner->ops->peer(inner);
}

static const guint8 *metered_fingerprint(Transport *t)
{
        Transport *inner = ((Metered *)t)->inner;

        return inner->ops->peer_fingerprint ? inner->ops->peer_fingerprint(inner) : NULL;
}

static void metered_free(Transport *t)
{
        transport_free(((Metered *)t)->inner);
        g_free(t);
}

static const char *metered_name(Transport *t)
{
        return transport_name(((Metered *)t)->inner);
}

static const struct transport_ops metered_ops = {
        .name = "metered",
        .start = metered_start,
        .send = metered_send,
        .queued = metered_queued,
        .peer = metered_peer,
        .peer_fingerprint = metered_fingerprint,
        .instance_name = metered_name,
        .free = metered_free,
};

Transport *metered_transport_new(const struct host_env *env, Transport *inner)
{
        Metered *m = g_new0(Metered, 1);

        m->base.ops = &metered_ops;
        m->env = env;
        m->inner = inner;
        m->bytes = budget_new(GUEST_BYTES_RATE, GUEST_BYTES_BURST);
        transport_set_events(inner, &inner_events, m);
        return &m->base;
}

void metered_transport_credit(Transport *t, gsize bytes)
{
        Metered *m = (Metered *)t;

        m->credit = MIN(m->credit + bytes, CREDIT_MAX);
}
