/* proto/send_queue.c - buffers that wait for a descriptor to take them, and when there is room again. */
#include "proto/send_queue.h"

#include "proto/limits.h"

void send_queue_init(SendQueue *q)
{
        *q = (SendQueue){.bufs = G_QUEUE_INIT};
}

void send_queue_clear(SendQueue *q)
{
        g_queue_clear_full(&q->bufs, (GDestroyNotify)g_bytes_unref);
        q->head = 0;
        q->queued = 0;
}

void send_queue_push(SendQueue *q, GBytes *buf)
{
        gsize len = g_bytes_get_size(buf);

        if (len == 0)
                return;
        g_queue_push_tail(&q->bufs, g_bytes_ref(buf));
        q->queued += len;
        if (q->queued >= LIMIT_SEND_LOW)
                q->full = TRUE;
}

const void *send_queue_peek(const SendQueue *q, gsize *ret_len)
{
        GBytes *first = g_queue_peek_head((GQueue *)&q->bufs);
        const guint8 *data;
        gsize len;

        if (!first)
                return NULL;
        data = g_bytes_get_data(first, &len);
        *ret_len = len - q->head;
        return data + q->head;
}

void send_queue_consume(SendQueue *q, gsize len)
{
        GBytes *first = g_queue_peek_head(&q->bufs);

        g_assert(first && len <= g_bytes_get_size(first) - q->head);
        q->head += len;
        q->queued -= len;
        if (q->head == g_bytes_get_size(first)) {
                g_bytes_unref(g_queue_pop_head(&q->bufs));
                q->head = 0;
        }
}

gboolean send_queue_has_room(SendQueue *q)
{
        if (!q->full || q->queued >= LIMIT_SEND_LOW)
                return FALSE;
        q->full = FALSE;
        return TRUE;
}
