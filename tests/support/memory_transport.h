/* tests/support/memory_transport.h - a transport without I/O or loop: the test sees each frame and feeds each
 * byte.
 *
 * The session owns the Transport as always; the MemoryTransport lives until memory_transport_unref(). */
#pragma once

#include "proto/session.h"
#include "proto/transport.h"

typedef struct MemoryTransport MemoryTransport;
MemoryTransport *memory_transport_new(void);
void memory_transport_unref(MemoryTransport *m);
/* What is given to session_new(). */
Transport *memory_transport_transport(MemoryTransport *m);
/* It goes through no network from now on. */
void memory_transport_set_near(MemoryTransport *m);
gboolean memory_transport_is_freed(const MemoryTransport *m); /* the session has closed it */

/* The oldest frame sent and not yet taken, or NULL. */
GBytes *memory_transport_take(MemoryTransport *m);
/* Events for the session; nothing once it is freed. */
void memory_transport_feed(MemoryTransport *m, const void *data, size_t len);
void memory_transport_feed_frame(MemoryTransport *m, const Message *message);
void memory_transport_set_status(MemoryTransport *m, TransportStatus status);
void memory_transport_writable(MemoryTransport *m);

/* Time that stands still until told, and numbers that are the same in each run. One for each session. */
typedef struct {
        gint64 now_us, deadline_us;
        guint32 random_state;
        guint8 last_random[16]; /* the session's present nonce */
        Session *session;       /* set by whoever ticks it */
} VirtualTime;
extern const struct session_environment virtual_time_environment; /* env: VirtualTime */
/* Goes to @now_us and ticks all that is due on the way. False if it is due again at once, 1000 times over. */
gboolean virtual_time_go(VirtualTime *v, gint64 now_us);
