/* tests/sim/wire.c - a simulated byte stream. */
#include "tests/sim/wire.h"

#include <string.h>

#include "common/error.h"
#include "proto/limits.h"

#define LATENCY_US 400

typedef struct {
        Transport base;
        Wire *wire; /* NULL: freed by its owner */
        WireSide side;
        guint refs;
        gboolean started, up;
} End;

struct Wire {
        World *w;
        char *name;
        gboolean is_port;
        wire_effect_func effect;
        gpointer user;
        End *ends[2];
        guint epoch;          /* a new one with each break */
        gint64 arrival_us[2]; /* of the last piece on its way to this side */
        gsize on_its_way[2];
        GBytes *rest[2]; /* of a lost frame; comes first at the next connection */
        gint64 latency_us, stalled_until_us;
};

/* Something that comes to an end. */
struct delivery {
        Wire *wire;
        End *end;
        guint epoch;
        GBytes *bytes; /* or NULL: a status */
        TransportStatus status;
};

static const char *const side_names[] = {"host", "far"};

Wire *wire_new(World *w, const char *name, gboolean is_port, wire_effect_func effect, gpointer user)
{
        Wire *wire = g_new0(Wire, 1);

        wire->w = w;
        wire->name = g_strdup(name);
        wire->is_port = is_port;
        wire->effect = effect;
        wire->user = user;
        wire->latency_us = LATENCY_US;
        return wire;
}

static void end_unref(End *e)
{
        if (--e->refs == 0)
                g_free(e);
}

void wire_free(Wire *wire)
{
        if (!wire)
                return;
        for (guint i = 0; i < 2; i++) {
                g_assert(!wire->ends[i]);
                g_clear_pointer(&wire->rest[i], g_bytes_unref);
        }
        g_free(wire->name);
        g_free(wire);
}

static End *other(const End *e)
{
        return e->wire ? e->wire->ends[!e->side] : NULL;
}

/* --- arriving --- */

static void tell_writable(Wire *wire, WireSide to, gsize before)
{
        End *sender = wire->ends[!to];

        if (before >= LIMIT_SEND_LOW && wire->on_its_way[to] < LIMIT_SEND_LOW && sender && sender->up)
                sender->base.events->writable(sender->base.user);
}

static void deliver_bytes(struct delivery *d)
{
        End *e = d->end;
        gsize len, before;
        const void *data = g_bytes_get_data(d->bytes, &len);

        if (!e->wire || e->wire->epoch != d->epoch)
                return;
        before = e->wire->on_its_way[e->side];
        e->wire->on_its_way[e->side] -= MIN(before, len);
        world_trace(e->wire->w, "%s %s < %" G_GSIZE_FORMAT, e->wire->name, side_names[e->side], len);
        if (e->up)
                e->base.events->bytes(e->base.user, data, len);
        if (e->wire)
                tell_writable(e->wire, e->side, before);
}

static void deliver_status(struct delivery *d)
{
        End *e = d->end;
        g_autoptr(GError) error = NULL;
        gboolean stands = e->wire && (other(e) != NULL || e->side == WIRE_HOST);

        if (!e->wire || !e->started || (d->status == TRANSPORT_UP && !stands) ||
            (d->status == TRANSPORT_AWAY && other(e) && other(e)->started))
                return;
        e->up = d->status == TRANSPORT_UP;
        world_trace(e->wire->w, "%s %s is %s", e->wire->name, side_names[e->side],
                    d->status == TRANSPORT_UP     ? "up"
                    : d->status == TRANSPORT_AWAY ? "away"
                                                  : "closed");
        if (!e->up)
                error = g_error_new(MOULT_ERROR, MOULT_ERROR_IO, "%s: the other side hung up", e->wire->name);
        e->base.events->status(e->base.user, d->status, error);
}

static void delivery_free(gpointer user)
{
        struct delivery *d = user;

        g_clear_pointer(&d->bytes, g_bytes_unref);
        end_unref(d->end);
        g_free(d);
}

static void on_delivery(gpointer user)
{
        struct delivery *d = user;

        if (d->bytes)
                deliver_bytes(d);
        else
                deliver_status(d);
        delivery_free(d);
}

static void schedule(End *e, gint64 at_us, GBytes *bytes, TransportStatus status)
{
        struct delivery *d = g_new(struct delivery, 1);

        e->refs++;
        *d = (struct delivery){e->wire, e, e->wire->epoch, bytes ? g_bytes_ref(bytes) : NULL, status};
        world_at_full(e->wire->w, at_us - world_now_us(e->wire->w), on_delivery, d, delivery_free);
}

static gint64 arrival(Wire *wire, WireSide to)
{
        gint64 least = wire->latency_us / 10;
        gint64 at = world_now_us(wire->w) + least + world_random(wire->w, (guint)(wire->latency_us - least));

        at = MAX(at, wire->stalled_until_us);
        wire->arrival_us[to] = MAX(at, wire->arrival_us[to]);
        return wire->arrival_us[to];
}

static void put(Wire *wire, WireSide to, GBytes *bytes)
{
        gsize left = g_bytes_get_size(bytes), at = 0;

        wire->on_its_way[to] += left;
        while (left > 0) {
                gsize n =
                        world_chance(wire->w, 60) ? 1 + world_random(wire->w, (guint)MIN(left, 4096)) : left;
                g_autoptr(GBytes) piece = g_bytes_new_from_bytes(bytes, at, MIN(n, left));

                n = g_bytes_get_size(piece);
                schedule(wire->ends[to], arrival(wire, to), piece, TRANSPORT_UP);
                at += n;
                left -= n;
        }
}

/* --- the operations of an end --- */

static void come_up(End *e)
{
        g_autoptr(GBytes) rest = g_steal_pointer(&e->wire->rest[e->side]);

        schedule(e, arrival(e->wire, e->side), NULL, TRANSPORT_UP);
        if (rest)
                put(e->wire, e->side, rest);
}

static void start(Transport *t)
{
        End *e = (End *)t;

        e->started = TRUE;
        if (e->side == WIRE_FAR && !(other(e) && other(e)->started)) {
                schedule(e, arrival(e->wire, e->side), NULL, TRANSPORT_AWAY);
                return;
        }
        come_up(e);
        if (other(e) && other(e)->started && !other(e)->up)
                come_up(other(e));
}

static void send(Transport *t, GBytes *frame)
{
        End *e = (End *)t;
        Wire *wire = e->wire;

        if (e->side == WIRE_HOST && !wire->effect(wire->user))
                return;
        if (!e->up || !wire->ends[!e->side] || !wire->ends[!e->side]->started)
                return;
        put(wire, !e->side, frame);
}

static gsize queued(Transport *t)
{
        End *e = (End *)t;

        return e->wire->on_its_way[!e->side];
}

static const char *peer(Transport *t)
{
        return ((End *)t)->wire->name;
}

static const guint8 *peer_fingerprint(Transport *t)
{
        return NULL;
}

/* What is on its way is lost, but for a rest of what went to the other side of a port. */
static void break_off(Wire *wire)
{
        wire->epoch++;
        wire->arrival_us[0] = wire->arrival_us[1] = 0;
        for (guint side = 0; side < 2; side++) {
                if (wire->is_port && wire->on_its_way[side] > 0 && world_chance(wire->w, 300)) {
                        guint8 bytes[64];
                        gsize n = 1 + world_random(wire->w, sizeof bytes - 1);

                        world_random_fill(wire->w, bytes, n);
                        g_clear_pointer(&wire->rest[side], g_bytes_unref);
                        wire->rest[side] = g_bytes_new(bytes, n);
                }
                wire->on_its_way[side] = 0;
        }
}

static void hear_end(End *e)
{
        if (e && e->started)
                schedule(e, world_now_us(e->wire->w), NULL,
                         e->wire->is_port && e->side == WIRE_FAR ? TRANSPORT_AWAY : TRANSPORT_CLOSED);
}

static void end_free(Transport *t)
{
        End *e = (End *)t;
        Wire *wire = e->wire;

        wire->ends[e->side] = NULL;
        e->up = FALSE;
        break_off(wire);
        /* An agent that ends is not seen from the other side of a port. */
        if (!(wire->is_port && e->side == WIRE_FAR))
                hear_end(wire->ends[!e->side]);
        e->wire = NULL;
        end_unref(e);
}

static const struct transport_ops port_ops = {"virtio-serial",  start, send,     queued, peer,
                                              peer_fingerprint, NULL,  end_free, TRUE};
static const struct transport_ops plain_ops = {"qmp", start,    send, queued, peer, peer_fingerprint,
                                               NULL,  end_free, TRUE};

Transport *wire_attach(Wire *wire, WireSide side)
{
        End *e = g_new0(End, 1);

        g_assert(!wire->ends[side]);
        e->base.ops = wire->is_port ? &port_ops : &plain_ops;
        e->wire = wire;
        e->side = side;
        e->refs = 1;
        wire->ends[side] = e;
        return &e->base;
}

gboolean wire_is_attached(const Wire *wire, WireSide side)
{
        return wire->ends[side] != NULL;
}

void wire_cut(Wire *wire)
{
        world_trace(wire->w, "%s is cut", wire->name);
        break_off(wire);
        for (guint side = 0; side < 2; side++)
                if (wire->ends[side]) {
                        wire->ends[side]->up = FALSE;
                        hear_end(wire->ends[side]);
                }
}

void wire_noise(Wire *wire, WireSide side)
{
        guint8 bytes[200];
        gsize n = 1 + world_random(wire->w, sizeof bytes - 1);
        g_autoptr(GBytes) noise = NULL;

        if (!wire->ends[side] || !wire->ends[side]->up)
                return;
        world_random_fill(wire->w, bytes, n);
        noise = g_bytes_new(bytes, n);
        put(wire, side, noise);
}

void wire_stall(Wire *wire, gint64 for_us)
{
        wire->stalled_until_us = MAX(wire->stalled_until_us, world_now_us(wire->w) + for_us);
}

void wire_set_latency(Wire *wire, gint64 us)
{
        wire->latency_us = us;
}
