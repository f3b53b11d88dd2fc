/* tests/fuzz/fuzz_session.c - a script of what a peer may do to a session that stands.
 *
 * Steps: one byte of operation, two of length (big-endian), then that many bytes. The session has virtual
 * time and a transport in memory; its owner answers some requests, asks some, and at one operation closes in
 * its handler. The script is played twice: to a host, and to an agent, whose Fetch is answered in parts. */
#include <stdint.h>
#include <string.h>

#include "proto/handshake.h"
#include "proto/limits.h"
#include "proto/session.h"
#include "tests/support/memory_transport.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum operation {
        RAW,      /* bytes */
        FRAMED,   /* bytes as the payload of a good frame */
        NUMBERED, /* the same, with the number that is due, if they are a message */
        TIME,     /* seconds pass: the first byte */
        AWAY_UP,  /* the transport is reopened */
        HELLO,    /* the handshake again, by a peer with the nonce that the first byte makes */
        ASK,      /* the owner asks something */
        DRAIN,    /* what the session has sent is taken */
        CLOSE,    /* the next event closes */
        OPERATIONS
};

struct fuzz {
        Moult__Role role;
        MemoryTransport *wire;
        VirtualTime time;
        Session *session;
        GPtrArray *questions; /* of struct question */
        guint64 next_id;
        gboolean established, close_next;
        int asked, answered;
};

struct question {
        struct fuzz *f;
        Moult__Message__BodyCase answer;
        gboolean ended;
};

static void maybe_close(struct fuzz *f)
{
        if (!f->close_next || !f->session)
                return;
        f->time.session = NULL;
        g_clear_pointer(&f->session, session_unref);
}

static void on_established(Session *s, const Moult__Hello *peer, gpointer user)
{
        struct fuzz *f = user;
        g_autofree char *name = message_string(peer->hostname);

        g_assert(name);

        g_assert(!f->established);
        f->established = TRUE;
        f->next_id = handshake_first_number(peer->nonce.data) + 1;
        maybe_close(f);
}

static void on_lost(Session *s, const GError *why, gpointer user)
{
        struct fuzz *f = user;

        g_assert(why && *why->message);
        f->established = FALSE;
        maybe_close(f);
}

static void on_closed(Session *s, const GError *why, gpointer user)
{
        struct fuzz *f = user;

        f->established = FALSE;
        f->time.session = NULL;
        g_clear_pointer(&f->session, session_unref);
}

static void on_message(Session *s, const Message *m, gpointer user)
{
        struct fuzz *f = user;

        g_assert(f->established && session_is_established(s));
        if (m->body_case == MOULT__MESSAGE__BODY_FETCH) {
                Message reply = MOULT__MESSAGE__INIT;
                Moult__Data data = MOULT__DATA__INIT;

                data.last = 1;
                data.offset = m->fetch->offset;
                reply.body_case = MOULT__MESSAGE__BODY_DATA;
                reply.data = &data;
                session_reply(s, m, &reply);
        } else {
                session_reply_ack(s, m);
        }
        maybe_close(f);
}

static void on_answer(Session *s, const Message *reply, const GError *error, gpointer user)
{
        struct question *q = user;
        struct fuzz *f = q->f;

        g_assert(!q->ended);
        g_assert((reply == NULL) != (error == NULL));
        g_assert(!reply || reply->body_case == q->answer);
        q->ended = !reply || reply->body_case != MOULT__MESSAGE__BODY_DATA || reply->data->last;
        f->answered += q->ended;
        maybe_close(f);
}

static void on_writable(Session *s, gpointer user)
{
        maybe_close(user);
}

static const struct session_events events = {on_established, on_lost, on_closed, on_message, on_writable};

static void drain(struct fuzz *f)
{
        for (GBytes *b; (b = memory_transport_take(f->wire));)
                g_bytes_unref(b);
}

static void feed_hello(struct fuzz *f, guint8 seed)
{
        guint8 nonce[16];
        Message m = MOULT__MESSAGE__INIT;
        Moult__Hello hello = MOULT__HELLO__INIT;

        memset(nonce, seed, sizeof nonce);
        hello.version_min = hello.version_max = 1;
        hello.role = f->role == MOULT__ROLE__ROLE_HOST ? MOULT__ROLE__ROLE_AGENT : MOULT__ROLE__ROLE_HOST;
        hello.nonce = message_blob(nonce, sizeof nonce);
        m.body_case = MOULT__MESSAGE__BODY_HELLO;
        m.hello = &hello;
        memory_transport_feed_frame(f->wire, &m);
        hello.echo = message_blob(f->time.last_random, sizeof f->time.last_random);
        memory_transport_feed_frame(f->wire, &m);
}

static void feed_framed(struct fuzz *f, const uint8_t *data, size_t len, gboolean numbered)
{
        g_autoptr(GBytes) payload = g_bytes_new(data, len);
        g_autoptr(Message) m = message_decode(payload, NULL);

        if (!m)
                return;
        /* Small numbers mean those of this session. */
        m->id = numbered ? f->next_id++ : m->id != 0 ? f->next_id - 1 + m->id : 0;
        if (m->reply_to != 0)
                m->reply_to += handshake_first_number(f->time.last_random);
        if (protobuf_c_message_get_packed_size(&m->base) <= LIMIT_FRAME_PAYLOAD)
                memory_transport_feed_frame(f->wire, m);
}

static void ask(struct fuzz *f)
{
        static const guint8 zero[32];
        Message m = MOULT__MESSAGE__INIT;
        Moult__PlanQuery query = MOULT__PLAN_QUERY__INIT;
        Moult__Fetch fetch = MOULT__FETCH__INIT;
        struct question *q;

        if (!f->session || f->asked > 100)
                return;
        q = g_new0(struct question, 1);
        q->f = f;
        g_ptr_array_add(f->questions, q);
        if (f->role == MOULT__ROLE__ROLE_AGENT && f->asked % 2 == 0) {
                fetch.manifest_digest = message_blob(zero, 32);
                fetch.length = LIMIT_FETCH_BYTES;
                m.body_case = MOULT__MESSAGE__BODY_FETCH;
                m.fetch = &fetch;
                q->answer = MOULT__MESSAGE__BODY_DATA;
        } else {
                query.push_id = message_blob(zero, 16);
                query.count = 1;
                m.body_case = MOULT__MESSAGE__BODY_PLAN_QUERY;
                m.plan_query = &query;
                q->answer = MOULT__MESSAGE__BODY_PLAN_PAGE;
        }
        f->asked++;
        session_request(f->session, &m, 5000, on_answer, q);
}

static void step(struct fuzz *f, enum operation op, const uint8_t *data, size_t len)
{
        guint8 first = len > 0 ? data[0] : 0;

        switch (op) {
        case RAW:
                memory_transport_feed(f->wire, data, len);
                break;
        case FRAMED:
                feed_framed(f, data, len, FALSE);
                break;
        case NUMBERED:
                feed_framed(f, data, len, TRUE);
                break;
        case TIME:
                g_assert(virtual_time_go(&f->time, f->time.now_us + (gint64)first * G_USEC_PER_SEC));
                break;
        case AWAY_UP:
                memory_transport_set_status(f->wire, TRANSPORT_AWAY);
                memory_transport_set_status(f->wire, TRANSPORT_UP);
                break;
        case HELLO:
                feed_hello(f, first);
                break;
        case ASK:
                ask(f);
                break;
        case DRAIN:
                drain(f);
                memory_transport_writable(f->wire);
                break;
        case CLOSE:
                f->close_next = TRUE;
                break;
        case OPERATIONS:
                break;
        }
}

static void play(Moult__Role role, const uint8_t *data, size_t size)
{
        const struct session_hello hello = {.role = role, .software = "fuzz"};
        g_autoptr(GPtrArray) questions = g_ptr_array_new_with_free_func(g_free);
        struct fuzz f = {.role = role,
                         .questions = questions,
                         .time = {.now_us = 1000000, .deadline_us = G_MAXINT64, .random_state = 1}};

        f.wire = memory_transport_new();
        f.session = session_new(memory_transport_transport(f.wire), &hello, &events, &f);
        f.time.session = f.session;
        session_set_environment(f.session, &virtual_time_environment, &f.time);
        session_start(f.session);
        memory_transport_set_status(f.wire, TRANSPORT_UP);
        feed_hello(&f, 0x77);
        g_assert(f.established);

        while (size >= 3 && f.session) {
                size_t len = MIN((size_t)data[1] << 8 | data[2], size - 3);

                step(&f, data[0] % OPERATIONS, data + 3, len);
                data += 3 + len;
                size -= 3 + len;
        }
        if (f.session) { /* every question ends */
                g_assert(virtual_time_go(&f.time, f.time.now_us + 60 * G_USEC_PER_SEC));
                g_assert(!f.session || f.answered == f.asked);
        }
        session_unref(f.session);
        drain(&f);
        memory_transport_unref(f.wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        play(MOULT__ROLE__ROLE_HOST, data, size);
        play(MOULT__ROLE__ROLE_AGENT, data, size);
        return 0;
}
