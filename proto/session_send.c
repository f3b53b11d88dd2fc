/* proto/session_send.c - the way out of a session: numbers, frames, requests. */
#include "proto/limits.h"
#include "proto/refusal.h"
#include "proto/session_internal.h"

/* Sending */

/* What a guest tells of its files is much, and is made ready on its main loop while it has other work:
 * packing must be quick, and where no network is saved any bytes, it only costs time (decision 0025). */
static gboolean is_of_files(const Message *m)
{
        return m->body_case == MOULT__MESSAGE__BODY_TREE_DATA ||
               m->body_case == MOULT__MESSAGE__BODY_TREE_PAGE;
}

static GBytes *frame_of(const Session *s, const Message *m, const void *payload, gsize len)
{
        if (!is_of_files(m))
                return frame_encode_packed(payload, len, PACKING_SMALL);
        return s->transport->ops->near ? frame_encode(payload, len)
                                       : frame_encode_packed(payload, len, PACKING_QUICK);
}

static gboolean transmit(Session *s, const Message *m, gboolean pack, GError **error)
{
        g_autoptr(GBytes) payload = message_pack(m);
        g_autoptr(GBytes) frame = NULL;
        gsize len;
        const void *data = g_bytes_get_data(payload, &len);

        if (len > LIMIT_FRAME_PAYLOAD) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "a message of %zu bytes is larger than a frame may be (%u); ask for less at once",
                            len, LIMIT_FRAME_PAYLOAD);
                return FALSE;
        }
        frame = pack ? frame_of(s, m, data, len) : frame_encode(data, len);
        transport_send(s->transport, frame);
        return TRUE;
}

/* Outside the session: hello, and the error that refuses one. Dropped when the peer does not even read
 * hellos. */
void session_send_unnumbered(Session *s, Message *m)
{
        m->id = 0;
        if (s->up && transport_queued(s->transport) < LIMIT_SEND_LOW)
                transmit(s, m, /* pack= */ FALSE, NULL);
}

void session_send_hello(Session *s)
{
        Moult__Hello hello = s->hello;
        Message m = MOULT__MESSAGE__INIT;

        handshake_fill(&s->handshake, &hello);
        m.body_case = MOULT__MESSAGE__BODY_HELLO;
        m.hello = &hello;
        session_send_unnumbered(s, &m);
        s->next_hello_us =
                session_now_us(s) + (s->handshake.refused ? REFUSED_INTERVAL_US : HELLO_INTERVAL_US);
}

static void set_fault(Session *s, GError *fault)
{
        if (s->fault)
                g_error_free(fault);
        else
                s->fault = fault;
        session_arm(s);
}

/* The numbered way out. 0 with @error set if the message did not go. */
static guint64 send_numbered(Session *s, Message *m, GError **error)
{
        const char *why;

        if (!session_is_established(s)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO,
                            "%s: there is no session with the other side now", session_peer(s));
                return 0;
        }
        m->id = s->last_sent_id + 1;
        why = message_refusal(m);
        if (why) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "not sent, the other side would refuse it: %s", why);
                return 0;
        }
        if (!transmit(s, m, session_peer_can(s, CAPABILITY_ZSTD), error))
                return 0;
        s->last_sent_id = m->id;
        if (transport_queued(s->transport) > LIMIT_SEND_QUEUE)
                set_fault(s, g_error_new(
                                     MOULT_ERROR, MOULT_ERROR_IO,
                                     "%s: the other side does not take what we send: more than %u bytes wait",
                                     session_peer(s), LIMIT_SEND_QUEUE));
        return m->id;
}

guint64 session_send(Session *s, Message *m)
{
        g_autoptr(GError) error = NULL;
        guint64 id = send_numbered(s, m, &error);

        if (id == 0)
                g_debug("message of kind %d dropped: %s", (int)m->body_case, error->message);
        return id;
}

void session_reply_error(Session *s, const Message *request, const GError *error)
{
        Message m = MOULT__MESSAGE__INIT;
        Moult__Error e = MOULT__ERROR__INIT;

        message_error_fill(&e, error);
        m.reply_to = request->id;
        m.body_case = MOULT__MESSAGE__BODY_ERROR;
        m.error = &e;
        session_send(s, &m);
}

void session_reply(Session *s, const Message *request, Message *reply)
{
        g_autoptr(GError) error = NULL;

        reply->reply_to = request->id;
        if (send_numbered(s, reply, &error) == 0)
                session_reply_error(s, request, error); /* goes nowhere if there is no session */
}

void session_reply_ack(Session *s, const Message *request)
{
        Message m = MOULT__MESSAGE__INIT;
        Moult__Ack ack = MOULT__ACK__INIT;

        m.body_case = MOULT__MESSAGE__BODY_ACK;
        m.ack = &ack;
        session_reply(s, request, &m);
}

static void begin_to_wait(Session *s, gint64 now)
{
        s->waiting_since_us = now;
        s->ping_sent_us = 0;
}

guint64 session_request(Session *s, Message *m, guint timeout_ms, session_reply_func done, gpointer user)
{
        gboolean first = requests_waiting(s->requests) == 0;
        gint64 now = session_now_us(s);
        GError *error = NULL;
        guint64 id = send_numbered(s, m, &error), handle;

        handle = requests_add(s->requests, id, m->body_case, now, timeout_ms, done, user, error);
        if (first)
                begin_to_wait(s, now);
        session_arm(s);
        return handle;
}

void session_forget(Session *s, guint64 request_id)
{
        requests_forget(s->requests, request_id);
}

void session_watch(Session *s, gboolean on)
{
        if (on && !s->watch)
                begin_to_wait(s, session_now_us(s));
        s->watch = on;
        session_arm(s);
}
