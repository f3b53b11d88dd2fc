/* tests/support/memory_transport.c - a transport without I/O or loop: the test sees each frame and feeds each
 * byte. */
#include "tests/support/memory_transport.h"

#include <string.h>

#include "common/error.h"
#include "proto/frame.h"

struct MemoryTransport {
        Transport base;
        int refs;
        gboolean freed, up;
        GQueue sent;
        gsize queued;
};

static void start(Transport *t)
{
}

static void send_frame(Transport *t, GBytes *frame)
{
        MemoryTransport *m = (MemoryTransport *)t;

        if (!m->up)
                return;
        g_queue_push_tail(&m->sent, g_bytes_ref(frame));
        m->queued += g_bytes_get_size(frame);
}

static gsize queued(Transport *t)
{
        return ((MemoryTransport *)t)->queued;
}

static const char *peer(Transport *t)
{
        return "memory";
}

static const guint8 *peer_fingerprint(Transport *t)
{
        return NULL;
}

static void free_transport(Transport *t)
{
        MemoryTransport *m = (MemoryTransport *)t;

        m->freed = TRUE;
        memory_transport_unref(m);
}

static const struct transport_ops ops = {
        .name = "memory",
        .start = start,
        .send = send_frame,
        .queued = queued,
        .peer = peer,
        .peer_fingerprint = peer_fingerprint,
        .free = free_transport,
};

void memory_transport_set_near(MemoryTransport *m)
{
        static struct transport_ops near_ops;

        near_ops = ops;
        near_ops.near = TRUE;
        m->base.ops = &near_ops;
}

MemoryTransport *memory_transport_new(void)
{
        MemoryTransport *m = g_new0(MemoryTransport, 1);

        m->base.ops = &ops;
        m->refs = 2; /* the test's and the session's */
        g_queue_init(&m->sent);
        return m;
}

void memory_transport_unref(MemoryTransport *m)
{
        if (!m || --m->refs > 0)
                return;
        g_queue_clear_full(&m->sent, (GDestroyNotify)g_bytes_unref);
        g_free(m);
}

Transport *memory_transport_transport(MemoryTransport *m)
{
        return &m->base;
}

gboolean memory_transport_is_freed(const MemoryTransport *m)
{
        return m->freed;
}

GBytes *memory_transport_take(MemoryTransport *m)
{
        GBytes *frame = g_queue_pop_head(&m->sent);

        if (frame)
                m->queued -= g_bytes_get_size(frame);
        return frame;
}

void memory_transport_feed(MemoryTransport *m, const void *data, size_t len)
{
        if (!m->freed)
                m->base.events->bytes(m->base.user, data, len);
}

void memory_transport_feed_frame(MemoryTransport *m, const Message *message)
{
        g_autoptr(GBytes) payload = message_pack(message);
        g_autoptr(GBytes) frame = frame_encode(g_bytes_get_data(payload, NULL), g_bytes_get_size(payload));

        memory_transport_feed(m, g_bytes_get_data(frame, NULL), g_bytes_get_size(frame));
}

void memory_transport_set_status(MemoryTransport *m, TransportStatus status)
{
        g_autoptr(GError) error = NULL;

        if (m->freed)
                return;
        m->up = status == TRANSPORT_UP;
        if (status != TRANSPORT_UP)
                error = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_IO, "memory: the test says so");
        m->base.events->status(m->base.user, status, error);
}

void memory_transport_writable(MemoryTransport *m)
{
        if (!m->freed)
                m->base.events->writable(m->base.user);
}

static gint64 virtual_now(gpointer env)
{
        return ((VirtualTime *)env)->now_us;
}

static void virtual_random(gpointer env, void *ret, gsize len)
{
        VirtualTime *v = env;
        guint8 *out = ret;

        for (gsize i = 0; i < len; i++) {
                v->random_state = v->random_state * 1664525u + 1013904223u;
                out[i] = (guint8)(v->random_state >> 24);
        }
        memcpy(v->last_random, ret, MIN(len, sizeof v->last_random));
}

static void virtual_arm(gpointer env, Session *s, gint64 deadline_us)
{
        ((VirtualTime *)env)->deadline_us = deadline_us;
}

const struct session_environment virtual_time_environment = {virtual_now, virtual_random, virtual_arm};

gboolean virtual_time_go(VirtualTime *v, gint64 now_us)
{
        for (int i = 0; i < 1000; i++) {
                if (!v->session || v->deadline_us > now_us) {
                        v->now_us = now_us;
                        return TRUE;
                }
                v->now_us = MAX(v->now_us, v->deadline_us);
                v->deadline_us = G_MAXINT64;
                session_tick(v->session);
        }
        return FALSE;
}
