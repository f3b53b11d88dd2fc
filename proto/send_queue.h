/* proto/send_queue.h - buffers that wait for a descriptor to take them, and when there is room again. */
#pragma once

#include <glib.h>

typedef struct {
        GQueue bufs;   /* of GBytes */
        gsize head;    /* bytes of the first buffer that are gone already */
        gsize queued;  /* bytes that are left, in all */
        gboolean full; /* was at or above LIMIT_SEND_LOW since the last send_queue_has_room() */
} SendQueue;

void send_queue_init(SendQueue *q);
void send_queue_clear(SendQueue *q);
/* Takes a reference. */
void send_queue_push(SendQueue *q, GBytes *buf);
/* The bytes to write next; NULL when empty. */
const void *send_queue_peek(const SendQueue *q, gsize *ret_len);
/* @len of the bytes last peeked are written. */
void send_queue_consume(SendQueue *q, gsize len);
/* True once after the queue has fallen below LIMIT_SEND_LOW. */
gboolean send_queue_has_room(SendQueue *q);
