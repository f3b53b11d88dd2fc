/* tests/unit/test_proto_session_pair.c - two sessions over real descriptors and the real main loop. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/limits.h"
#include "proto/session.h"
#include "proto/transport_fd.h"

TestSuite(session_pair, .timeout = 60);

struct side {
        Session *session;
        int established, lost, closed, messages, replies, errors, parts;
        gboolean close_when_established, close_at_reply;
        guint64 received;
        char *error_text;
        int error_code;
        struct bulk {
                guint64 request_id, left;
        } bulk;
};

static void on_established(Session *s, const Moult__Hello *peer, gpointer user)
{
        struct side *me = user;

        me->established++;
        if (me->close_when_established)
                g_clear_pointer(&me->session, session_unref);
}

static void on_lost(Session *s, const GError *why, gpointer user)
{
        ((struct side *)user)->lost++;
}

static void on_closed(Session *s, const GError *why, gpointer user)
{
        struct side *me = user;

        me->closed++;
        me->error_text = g_strdup(why->message);
        g_clear_pointer(&me->session, session_unref);
}

static void send_bulk(struct side *me)
{
        static guint8 block[LIMIT_DATA_BYTES];

        while (me->bulk.left > 0 && session_queued(me->session) < LIMIT_SEND_LOW) {
                gsize n = MIN(me->bulk.left, sizeof block);
                Message request = MOULT__MESSAGE__INIT, m = MOULT__MESSAGE__INIT;
                Moult__Data data = MOULT__DATA__INIT;

                request.id = me->bulk.request_id;
                me->bulk.left -= n;
                data.bytes = message_blob(block, n);
                data.last = me->bulk.left == 0;
                m.body_case = MOULT__MESSAGE__BODY_DATA;
                m.data = &data;
                session_reply(me->session, &request, &m);
        }
}

static void on_message(Session *s, const Message *m, gpointer user)
{
        struct side *me = user;

        me->messages++;
        if (m->body_case == MOULT__MESSAGE__BODY_FETCH) {
                me->bulk = (struct bulk){m->id, (guint64)m->fetch->length *
                                                        16}; /* more than asked: to see pressure */
                send_bulk(me);
        }
}

static void on_writable(Session *s, gpointer user)
{
        send_bulk(user);
}

static const struct session_events events = {on_established, on_lost, on_closed, on_message, on_writable};
static const struct session_hello host_hello = {.role = MOULT__ROLE__ROLE_HOST, .software = "host"};
static const struct session_hello agent_hello = {.role = MOULT__ROLE__ROLE_AGENT, .software = "agent"};

static void start(struct side *host, struct side *agent)
{
        int fds[2];

        cr_assert(zero(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)));
        host->session =
                session_new(transport_fd_new(fds[0], "unix", "host end", FALSE), &host_hello, &events, host);
        agent->session = session_new(transport_fd_new(fds[1], "unix", "agent end", FALSE), &agent_hello,
                                     &events, agent);
        session_start(host->session);
        session_start(agent->session);
}

static void end(struct side *side)
{
        session_unref(side->session);
        g_free(side->error_text);
}

#define RUN_UNTIL(condition)                                                                                 \
        while (!(condition))                                                                                 \
        g_main_context_iteration(NULL, TRUE)

static void count_reply(Session *s, const Message *reply, const GError *error, gpointer user)
{
        struct side *me = user;

        if (error) {
                me->errors++;
                me->error_code = error->code;
        } else if (reply->body_case == MOULT__MESSAGE__BODY_DATA) {
                me->parts++;
                me->received += reply->data->bytes.len;
                me->replies += reply->data->last;
        } else {
                me->replies++;
        }
        if (me->close_at_reply)
                g_clear_pointer(&me->session, session_unref);
}

static void ask_ping(struct side *me)
{
        Message m = MOULT__MESSAGE__INIT;
        Moult__Ping ping = MOULT__PING__INIT;

        m.body_case = MOULT__MESSAGE__BODY_PING;
        m.ping = &ping;
        session_request(me->session, &m, 0, count_reply, me);
}

Test(session_pair, establishes_and_answers_a_ping)
{
        struct side host = {0}, agent = {0};

        start(&host, &agent);
        RUN_UNTIL(host.established && agent.established);
        ask_ping(&host);
        ask_ping(&agent);
        RUN_UNTIL(host.replies && agent.replies);
        cr_expect(eq(int, host.established, 1));
        cr_expect(eq(int, agent.established, 1));
        cr_expect(zero(int, host.lost + agent.lost));
        end(&host);
        end(&agent);
}

static void ask_fetch(struct side *me)
{
        static const guint8 digest[32];
        Message m = MOULT__MESSAGE__INIT;
        Moult__Fetch fetch = MOULT__FETCH__INIT;

        fetch.manifest_digest = message_blob(digest, sizeof digest);
        fetch.length = LIMIT_FETCH_BYTES;
        m.body_case = MOULT__MESSAGE__BODY_FETCH;
        m.fetch = &fetch;
        session_request(me->session, &m, 0, count_reply, me);
}

Test(session_pair, a_large_answer_flows_with_pressure_and_other_requests_are_served_meanwhile)
{
        struct side host = {0}, agent = {0};

        start(&host, &agent);
        RUN_UNTIL(host.established && agent.established);
        ask_fetch(&agent);
        RUN_UNTIL(agent.parts > 0);
        ask_ping(&host);
        RUN_UNTIL(agent.replies);
        RUN_UNTIL(host.replies);
        cr_expect(eq(u64, agent.received, (guint64)LIMIT_FETCH_BYTES * 16));
        cr_expect(eq(int, agent.parts, 64));
        cr_expect(zero(int, host.lost + agent.lost));
        end(&host);
        end(&agent);
}

Test(session_pair, a_dead_peer_fails_what_waits_and_closes)
{
        struct side host = {0}, agent = {0};

        start(&host, &agent);
        RUN_UNTIL(host.established && agent.established);
        ask_ping(&host);
        g_clear_pointer(&agent.session, session_unref);
        RUN_UNTIL(host.closed);
        cr_expect(eq(int, host.errors, 1));
        cr_expect(eq(int, host.error_code, MOULT_ERROR_IO));
        cr_expect(ne(ptr, strstr(host.error_text, "host end"), NULL), "%s", host.error_text);
        end(&host);
        end(&agent);
}

Test(session_pair, owner_may_drop_it_in_established_and_in_a_reply)
{
        struct side host = {.close_at_reply = TRUE}, agent = {0}, other = {.close_when_established = TRUE},
                    fourth = {0};

        start(&host, &agent);
        start(&other, &fourth);
        RUN_UNTIL(host.established && agent.established && other.established);
        cr_expect(eq(ptr, other.session, NULL));
        ask_ping(&host);
        RUN_UNTIL(host.replies);
        cr_expect(eq(ptr, host.session, NULL));
        RUN_UNTIL(agent.closed && fourth.closed);
        end(&host);
        end(&agent);
        end(&other);
        end(&fourth);
}

Test(session_pair, a_side_that_begins_late_and_one_that_is_replaced_are_met)
{
        struct side host = {0}, agent = {0};
        int fds[2];

        cr_assert(zero(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)));
        int again = fcntl(fds[1], F_DUPFD_CLOEXEC, 0); /* the line stays up when the first agent dies */
        host.session =
                session_new(transport_fd_new(fds[0], "unix", "host end", FALSE), &host_hello, &events, &host);
        session_start(host.session);
        for (int i = 0; i < 10; i++)
                g_main_context_iteration(NULL, FALSE);
        agent.session = session_new(transport_fd_new(fds[1], "unix", "agent end", FALSE), &agent_hello,
                                    &events, &agent);
        session_start(agent.session);
        RUN_UNTIL(host.established == 1 && agent.established == 1);
        session_unref(agent.session);
        agent.session = session_new(transport_fd_new(again, "unix", "agent end", FALSE), &agent_hello,
                                    &events, &agent);
        session_start(agent.session);
        RUN_UNTIL(host.established == 2 && agent.established == 2);
        cr_expect(eq(int, host.lost, 1));
        ask_ping(&agent);
        RUN_UNTIL(agent.replies == 1);
        end(&host);
        end(&agent);
}

Test(session_pair, idle_it_never_wakes)
{
        struct side host = {0}, agent = {0};
        gint timeout = 0, priority;
        GPollFD polled[16];

        start(&host, &agent);
        RUN_UNTIL(host.established && agent.established);
        for (int i = 0; i < 20; i++)
                g_main_context_iteration(NULL, FALSE);
        GMainContext *loop = g_main_context_default();

        cr_assert(g_main_context_acquire(loop));
        g_main_context_prepare(loop, &priority);
        g_main_context_query(loop, priority, &timeout, polled, G_N_ELEMENTS(polled));
        g_main_context_release(loop);
        cr_expect(eq(int, timeout, -1)); /* sleeps until a byte comes */
        end(&host);
        end(&agent);
}
