/* tests/unit/test_proto_session_faults.c - a seeded line that drops, doubles, swaps, garbles, cuts and
 * disconnects, and peers that are killed: both sides must always come together again, and nothing corrupted
 * or stale is ever delivered.
 *
 * Each message carries the nonces of the session in which it was sent and a counter. So its receiver can tell
 * that it is of the present session, and the one that is due. Time is virtual; a seed is a history. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/session.h"
#include "tests/support/memory_transport.h"

TestSuite(session_faults, .timeout = 100);

struct stamp { /* what a message carries, in fields of 16 and 32 bytes */
        guint8 from[16], to[16];
        guint32 count, check;
};

struct node {
        struct world *world;
        struct node *peer;
        Moult__Role role;
        MemoryTransport *wire;
        VirtualTime time;
        Session *session;
        GByteArray *line; /* bytes on their way to this node */
        GBytes *late;     /* a frame that was doubled or swapped, to come later */
        guint8 peer_nonce[16];
        guint32 sent, received;
        int established, asked, answered;
        guint64 delivered;
};

struct world {
        struct node host, agent;
        GRand *rand;
        gboolean faults;
        guint seed;
};

static guint32 check_of(const struct stamp *s)
{
        guint32 sum = 2166136261u;

        for (size_t i = 0; i < G_STRUCT_OFFSET(struct stamp, check); i++)
                sum = (sum ^ ((const guint8 *)s)[i]) * 16777619u;
        return sum;
}

static void node_up(struct node *n);

static void on_established(Session *s, const Moult__Hello *peer, gpointer user)
{
        struct node *n = user;

        n->established++;
        n->sent = n->received = 0;
        memcpy(n->peer_nonce, peer->nonce.data, sizeof n->peer_nonce);
}

static void on_lost(Session *s, const GError *why, gpointer user)
{
}

static void on_closed(Session *s, const GError *why, gpointer user)
{
        struct node *n = user;

        n->time.session = NULL;
        g_clear_pointer(&n->session, session_unref);
}

/* Both carry the stamp in a text of theirs. */
static ProtobufCBinaryData stamp_of(const Message *m)
{
        return m->body_case == MOULT__MESSAGE__BODY_STATE ? m->state->text : m->error->text;
}

static void on_message(Session *s, const Message *m, gpointer user)
{
        struct node *n = user;
        ProtobufCBinaryData b = stamp_of(m);
        struct stamp stamp;

        cr_assert(eq(sz, b.len, sizeof stamp));
        memcpy(&stamp, b.data, sizeof stamp);
        cr_assert(eq(u32, stamp.check, check_of(&stamp)), "seed %u: corrupted", n->world->seed);
        cr_assert(zero(int, memcmp(stamp.from, n->peer_nonce, 16)),
                  "seed %u: of an older session of the peer's", n->world->seed);
        cr_assert(zero(int, memcmp(stamp.to, n->time.last_random, 16)),
                  "seed %u: of an older session of ours", n->world->seed);
        cr_assert(eq(u32, stamp.count, n->received + 1), "seed %u: out of order", n->world->seed);
        n->received++;
        n->delivered++;
}

static const struct session_events events = {on_established, on_lost, on_closed, on_message, NULL};

static void on_answer(Session *s, const Message *reply, const GError *error, gpointer user)
{
        ((struct node *)user)->answered++;
}

static void say(struct node *n)
{
        Message m = MOULT__MESSAGE__INIT;
        Moult__TransactionState state = MOULT__TRANSACTION_STATE__INIT;
        Moult__Error e = MOULT__ERROR__INIT;
        struct stamp stamp;

        if (!n->session || !session_is_established(n->session))
                return;
        memcpy(stamp.from, n->time.last_random, 16);
        memcpy(stamp.to, n->peer_nonce, 16);
        stamp.count = ++n->sent;
        stamp.check = check_of(&stamp);
        if (n->role == MOULT__ROLE__ROLE_AGENT) {
                state.text = message_blob(&stamp, sizeof stamp);
                m.body_case = MOULT__MESSAGE__BODY_STATE;
                m.state = &state;
        } else {
                e.text = message_blob(&stamp, sizeof stamp);
                m.body_case = MOULT__MESSAGE__BODY_ERROR;
                m.error = &e;
        }
        session_send(n->session, &m);
}

static void ask(struct node *n)
{
        Message m = MOULT__MESSAGE__INIT;
        Moult__Ping ping = MOULT__PING__INIT;

        if (!n->session)
                return;
        m.body_case = MOULT__MESSAGE__BODY_PING;
        m.ping = &ping;
        n->asked++;
        session_request(n->session, &m, 20000, on_answer, n);
}

static void node_up(struct node *n)
{
        const struct session_hello hello = {.role = n->role};

        n->wire = memory_transport_new();
        n->session = session_new(memory_transport_transport(n->wire), &hello, &events, n);
        n->time.session = n->session;
        n->time.deadline_us = G_MAXINT64;
        session_set_environment(n->session, &virtual_time_environment, &n->time);
        session_start(n->session);
        memory_transport_set_status(n->wire, TRANSPORT_UP);
}

static void node_down(struct node *n)
{
        n->asked = n->answered; /* close forgets them */
        n->time.session = NULL;
        g_clear_pointer(&n->session, session_unref);
        g_clear_pointer(&n->wire, memory_transport_unref);
}

/* Killed and started again. What was on the line stays there, in both directions: nobody tells a virtio port.
 */
static void node_restart(struct node *n)
{
        node_down(n);
        node_up(n);
}

static void put(struct node *to, GBytes *frame)
{
        gsize len;
        const guint8 *data = g_bytes_get_data(frame, &len);

        g_byte_array_append(to->line, data, (guint)len);
}

/* One frame of @from goes onto the line, more or less. */
static void transfer(struct node *from)
{
        struct node *to = from->peer;
        GRand *rand = from->world->rand;
        int fault = from->world->faults ? g_rand_int_range(rand, 0, 60) : 99;
        g_autoptr(GBytes) frame = from->wire ? memory_transport_take(from->wire) : NULL;
        gsize len, at;

        if (!frame)
                return;
        len = g_bytes_get_size(frame);
        at = (gsize)g_rand_int_range(rand, 0, (gint32)len);
        switch (fault) {
        case 0: /* dropped */
                return;
        case 1: /* doubled */
                put(to, frame);
                put(to, frame);
                return;
        case 2: /* doubled, the second much later; or it was kept and the old one comes first */
                put(to, frame);
                if (to->late)
                        put(to, to->late);
                g_clear_pointer(&to->late, g_bytes_unref);
                to->late = g_bytes_ref(frame);
                return;
        case 3: /* garbled */
                put(to, frame);
                to->line->data[to->line->len - len + at] ^= (guint8)g_rand_int_range(rand, 1, 256);
                return;
        case 4: { /* the end is missing */
                g_autoptr(GBytes) part = g_bytes_new_from_bytes(frame, 0, at);

                put(to, part);
                return;
        }
        case 5: { /* the beginning is missing */
                g_autoptr(GBytes) part = g_bytes_new_from_bytes(frame, at, len - at);

                put(to, part);
                return;
        }
        default:
                put(to, frame);
        }
}

/* Some bytes of the line arrive. */
static void deliver(struct node *to)
{
        guint at_most = (guint)g_rand_int_range(to->world->rand, 1, 400);
        gsize n = MIN(to->line->len, at_most);
        g_autofree guint8 *bytes = g_memdup2(to->line->data, n);

        if (n == 0)
                return;
        g_byte_array_remove_range(to->line, 0, (guint)n);
        if (to->wire)
                memory_transport_feed(to->wire, bytes, n);
}

static void reopen(struct world *w)
{
        struct node *n = g_rand_boolean(w->rand) ? &w->host : &w->agent;

        if (g_rand_boolean(w->rand))
                g_byte_array_set_size(n->line, 0); /* unread bytes are thrown away */
        memory_transport_set_status(n->wire, TRANSPORT_AWAY);
        memory_transport_set_status(n->wire, TRANSPORT_UP);
}

static void pass(struct world *w, gint64 us)
{
        gint64 now = MAX(w->host.time.now_us, w->agent.time.now_us) + us;

        cr_assert(virtual_time_go(&w->host.time, now), "seed %u: the host spins", w->seed);
        cr_assert(virtual_time_go(&w->agent.time, now), "seed %u: the agent spins", w->seed);
}

static void step(struct world *w)
{
        struct node *n = g_rand_boolean(w->rand) ? &w->host : &w->agent;

        switch (g_rand_int_range(w->rand, 0, 100)) {
        case 0 ... 29:
                transfer(n);
                break;
        case 30 ... 69:
                deliver(n);
                break;
        case 70 ... 89:
                say(n);
                break;
        case 90 ... 91:
                ask(n);
                break;
        case 92:
                if (w->faults && g_rand_int_range(w->rand, 0, 8) == 0)
                        node_restart(n);
                break;
        case 93:
                if (w->faults && g_rand_int_range(w->rand, 0, 4) == 0)
                        reopen(w);
                break;
        default:
                pass(w, g_rand_int_range(w->rand, 1, 300000));
        }
        /* A closed session (endless noise) is opened again by its owner. */
        if (!n->session)
                node_restart(n);
}

static void node_init(struct node *n, struct world *w, struct node *peer, Moult__Role role,
                      guint32 random_state)
{
        n->world = w;
        n->peer = peer;
        n->role = role;
        n->line = g_byte_array_new();
        n->time = (VirtualTime){.now_us = 1000000, .random_state = random_state};
        node_up(n);
}

static void node_clear(struct node *n)
{
        node_down(n);
        g_byte_array_unref(n->line);
        g_clear_pointer(&n->late, g_bytes_unref);
}

/* Everything on its way arrives, in order. */
static void calm(struct world *w)
{
        for (int i = 0; i < 100000; i++) {
                gboolean busy = w->host.line->len > 0 || w->agent.line->len > 0 ||
                                transport_queued(memory_transport_transport(w->host.wire)) > 0 ||
                                transport_queued(memory_transport_transport(w->agent.wire)) > 0;
                if (!busy)
                        return;
                transfer(&w->host);
                transfer(&w->agent);
                deliver(&w->host);
                deliver(&w->agent);
        }
        cr_fail("seed %u: the two never fall silent", w->seed);
}

static guint64 history(guint seed, int steps)
{
        struct world w = {.seed = seed, .faults = TRUE};
        guint64 before_host, before_agent;

        w.rand = g_rand_new_with_seed(seed);
        node_init(&w.host, &w, &w.agent, MOULT__ROLE__ROLE_HOST, seed * 2 + 1);
        node_init(&w.agent, &w, &w.host, MOULT__ROLE__ROLE_AGENT, seed * 2 + 2);
        for (int i = 0; i < steps; i++)
                step(&w);

        w.faults = FALSE;
        for (int i = 0; i < 45; i++) { /* seconds: half a frame (10) and silence (20) and some */
                calm(&w);
                ask(&w.host);
                ask(&w.agent);
                calm(&w);
                pass(&w, G_USEC_PER_SEC);
        }
        calm(&w);
        cr_assert(session_is_established(w.host.session), "seed %u: the host does not stand", seed);
        cr_assert(session_is_established(w.agent.session), "seed %u: the agent does not stand", seed);
        before_host = w.host.delivered;
        before_agent = w.agent.delivered;
        for (int i = 0; i < 10; i++) {
                say(&w.host);
                say(&w.agent);
        }
        calm(&w);
        cr_assert(eq(u64, w.host.delivered, before_host + 10), "seed %u: messages to the host are lost",
                  seed);
        cr_assert(eq(u64, w.agent.delivered, before_agent + 10), "seed %u: messages to the agent are lost",
                  seed);
        pass(&w, 60 * G_USEC_PER_SEC);
        cr_assert(eq(int, w.host.asked, w.host.answered), "seed %u: a question of the host has no end", seed);
        cr_assert(eq(int, w.agent.asked, w.agent.answered), "seed %u: a question of the agent has no end",
                  seed);

        guint64 delivered = w.host.delivered + w.agent.delivered;
        cr_assert(gt(int, w.host.established + w.agent.established, 2));
        node_clear(&w.host);
        node_clear(&w.agent);
        g_rand_free(w.rand);
        return delivered;
}

/* MOULT_TEST_SEED=N repeats one history; MOULT_TEST_HISTORIES=N runs more of them. */
static guint from_environment(const char *name, guint otherwise)
{
        const char *value = g_getenv(name);

        return value ? (guint)g_ascii_strtoull(value, NULL, 10) : otherwise;
}

Test(session_faults, histories_heal_and_deliver_only_what_is_whole_and_of_now)
{
        guint only = from_environment("MOULT_TEST_SEED", 0),
              n = from_environment("MOULT_TEST_HISTORIES", 300);
        guint64 delivered = 0;

        for (guint seed = 1; seed <= n; seed++)
                delivered += history(only ? only : seed, 2000);
        cr_expect(gt(u64, delivered, n * 20)); /* not silent all the time: that would prove nothing */
}
