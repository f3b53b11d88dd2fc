/* tests/support/session_rig.c - one session in virtual time against a peer that the test plays. */
#include "tests/support/session_rig.h"

static void note(struct rig *r, const GError *error)
{
        g_free(r->text);
        r->text = g_strdup(error->message);
        r->error_code = error->code;
}

static void on_established(Session *s, const Moult__Hello *peer, gpointer user)
{
        struct rig *r = user;

        r->established++;
        r->next_id = handshake_first_number(peer->nonce.data) + 1;
        r->first_asked = handshake_first_number(r->time.last_random);
}

static void drop_session(struct rig *r)
{
        r->time.session = NULL;
        g_clear_pointer(&r->session, session_unref);
}

static void on_lost(Session *s, const GError *why, gpointer user)
{
        struct rig *r = user;

        r->lost++;
        note(r, why);
        if (r->close_in_lost)
                drop_session(r);
}

static void on_closed(Session *s, const GError *why, gpointer user)
{
        struct rig *r = user;

        r->closed++;
        note(r, why);
        drop_session(r);
}

static void on_message(Session *s, const Message *m, gpointer user)
{
        struct rig *r = user;

        r->messages++;
        r->last_message = m->body_case;
        if (r->close_in_message)
                drop_session(r);
}

static void on_writable(Session *s, gpointer user)
{
        ((struct rig *)user)->writable++;
}

static const struct session_events events = {on_established, on_lost, on_closed, on_message, on_writable};

void rig_init(struct rig *r, Moult__Role role)
{
        const struct session_hello hello = {.role = role, .software = "test"};

        *r = (struct rig){.time = {.now_us = 1000000, .deadline_us = G_MAXINT64, .random_state = 7},
                          .peer_nonce = 1};
        r->wire = memory_transport_new();
        r->session = session_new(memory_transport_transport(r->wire), &hello, &events, r);
        r->time.session = r->session;
        session_set_environment(r->session, &virtual_time_environment, &r->time);
        session_start(r->session);
        memory_transport_set_status(r->wire, TRANSPORT_UP);
}

void rig_clear(struct rig *r)
{
        session_unref(r->session);
        memory_transport_unref(r->wire);
        g_free(r->text);
}

Message *take(struct rig *r)
{
        g_autoptr(GBytes) frame = memory_transport_take(r->wire), payload = NULL;
        g_autoptr(FrameParser) p = frame_parser_new();
        Message *m;

        if (!frame)
                return NULL;
        frame_parser_push(p, g_bytes_get_data(frame, NULL), g_bytes_get_size(frame));
        payload = frame_parser_pull(p);
        cr_assert(ne(ptr, payload, NULL));
        m = message_unpack(payload, NULL);
        cr_assert(ne(ptr, m, NULL));
        return m;
}

Message *take_message(struct rig *r)
{
        for (Message *m; (m = take(r)); message_free(m))
                if (m->body_case != MOULT__MESSAGE__BODY_HELLO)
                        return m;
        return NULL;
}

int take_hellos(struct rig *r)
{
        int n = 0;

        for (Message *m; (m = take(r)); message_free(m))
                n += m->body_case == MOULT__MESSAGE__BODY_HELLO;
        return n;
}

void feed_hello(struct rig *r, guint32 version, Moult__Role role, gboolean with_echo)
{
        guint8 nonce[16];
        Message m = MOULT__MESSAGE__INIT;
        Moult__Hello hello = MOULT__HELLO__INIT;
        ProtobufCBinaryData can = message_bytes(r->peer_can ? r->peer_can : "");

        memset(nonce, r->peer_nonce, sizeof nonce);
        hello.version_min = hello.version_max = version;
        hello.role = role;
        hello.nonce = message_blob(nonce, sizeof nonce);
        if (with_echo)
                hello.echo = message_blob(r->time.last_random, sizeof r->time.last_random);
        if (r->peer_can) {
                hello.n_capabilities = 1;
                hello.capabilities = &can;
        }
        m.body_case = MOULT__MESSAGE__BODY_HELLO;
        m.hello = &hello;
        memory_transport_feed_frame(r->wire, &m);
}

void establish(struct rig *r)
{
        feed_hello(r, 1, MOULT__ROLE__ROLE_AGENT, TRUE);
        take_hellos(r);
}

void standing(struct rig *r)
{
        rig_init(r, MOULT__ROLE__ROLE_HOST);
        establish(r);
        cr_assert(eq(int, r->established, 1));
}

guint64 ask(struct rig *r, guint timeout_ms)
{
        static const guint8 zero[32];
        Message m = MOULT__MESSAGE__INIT;
        Moult__PushCommand c = MOULT__PUSH_COMMAND__INIT;

        c.push_id = message_blob(zero, 16);
        m.body_case = MOULT__MESSAGE__BODY_COMMAND;
        m.command = &c;
        return session_request(r->session, &m, timeout_ms, rig_on_answer, r);
}

void rig_on_answer(Session *s, const Message *reply, const GError *error, gpointer user)
{
        struct rig *r = user;

        if (error) {
                r->failures++;
                note(r, error);
                cr_expect(eq(ptr, (void *)reply, NULL));
        } else if (reply->body_case == MOULT__MESSAGE__BODY_DATA) {
                r->parts++;
                r->answers += reply->data->last;
        } else {
                r->answers++;
        }
        if (r->ask_again) {
                r->ask_again = FALSE;
                ask(r, 0);
        }
}

void pass(struct rig *r, gint64 seconds)
{
        cr_assert(virtual_time_go(&r->time, r->time.now_us + seconds * G_USEC_PER_SEC));
}
