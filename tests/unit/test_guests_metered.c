/* tests/unit/test_guests_metered.c - a guest's bytes are counted before anything else looks at them. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "host-service/guests/metered.h"
#include "tests/support/memory_transport.h"

TestSuite(metered, .timeout = 60);

struct rig {
        gint64 now_us;
        struct host_env env;
        MemoryTransport *wire;
        Transport *t;
        gsize got;
        guint closed;
        gboolean flood;
};

static gint64 clock_us(gpointer self)
{
        return ((struct rig *)self)->now_us;
}

static const struct host_clock_ops stopped_clock = {.wall_us = clock_us, .monotonic_us = clock_us};

static void on_bytes(gpointer user, const void *data, size_t len)
{
        ((struct rig *)user)->got += len;
}

static void on_writable(gpointer user)
{
}

static void on_status(gpointer user, TransportStatus status, const GError *error)
{
        struct rig *r = user;

        r->closed += status == TRANSPORT_CLOSED;
        r->flood = metered_error_is_flood(error);
}

static const struct transport_events events = {on_bytes, on_writable, on_status};

static void rig_up(struct rig *r)
{
        *r = (struct rig){.now_us = 1};
        r->env = (struct host_env){.self = r, .clock = &stopped_clock};
        r->wire = memory_transport_new();
        r->t = metered_transport_new(&r->env, memory_transport_transport(r->wire));
        transport_set_events(r->t, &events, r);
        transport_start(r->t);
        memory_transport_set_status(r->wire, TRANSPORT_UP);
}

static void rig_down(struct rig *r)
{
        transport_free(r->t);
        memory_transport_unref(r->wire);
}

static void feed(struct rig *r, gsize bytes)
{
        static const guint8 block[65536];

        for (; bytes > 0; bytes -= MIN(bytes, sizeof block))
                memory_transport_feed(r->wire, block, MIN(bytes, sizeof block));
}

Test(metered, a_flood_is_cut_off_at_the_burst_and_told_once)
{
        struct rig r;

        rig_up(&r);
        feed(&r, 4 * GUEST_BYTES_BURST);
        cr_expect(eq(sz, r.got, GUEST_BYTES_BURST));
        cr_expect(eq(u32, r.closed, 1));
        cr_expect(r.flood);
        r.now_us += G_GINT64_CONSTANT(3600) * G_USEC_PER_SEC;
        feed(&r, 1);
        cr_expect(eq(sz, r.got, GUEST_BYTES_BURST), "it stays closed");
        rig_down(&r);
}

Test(metered, an_honest_guest_may_talk_for_ever)
{
        struct rig r;

        rig_up(&r);
        for (int s = 0; s < 1000; s++) {
                feed(&r, GUEST_BYTES_RATE);
                r.now_us += G_USEC_PER_SEC;
        }
        cr_expect(eq(sz, r.got, (gsize)1000 * GUEST_BYTES_RATE));
        cr_expect(eq(u32, r.closed, 0));
        rig_down(&r);
}

Test(metered, what_was_asked_for_does_not_count)
{
        struct rig r;

        rig_up(&r);
        for (int page = 0; page < 400; page++) {
                metered_transport_credit(r.t, 262144);
                feed(&r, 262144);
        }
        cr_expect(eq(u32, r.closed, 0));
        feed(&r, 2 * GUEST_BYTES_BURST);
        cr_expect(eq(u32, r.closed, 1), "the credit is used up");
        rig_down(&r);
}

Test(metered, an_unused_credit_is_no_licence)
{
        struct rig r;

        rig_up(&r);
        for (int i = 0; i < 1000; i++)
                metered_transport_credit(r.t, 524288);
        feed(&r, (gsize)64 << 20);
        cr_expect(lt(sz, r.got, (gsize)8 << 20));
        cr_expect(eq(u32, r.closed, 1));
        rig_down(&r);
}

Test(metered, an_ordinary_end_is_not_called_a_flood)
{
        struct rig r;

        rig_up(&r);
        feed(&r, 10);
        memory_transport_set_status(r.wire, TRANSPORT_CLOSED);
        cr_expect(eq(u32, r.closed, 1));
        cr_expect(not(r.flood));
        rig_down(&r);
}
