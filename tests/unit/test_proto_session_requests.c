/* tests/unit/test_proto_session_requests.c - what a session's owner asks: answers, parts, time limits,
 * failures. */
#include "tests/support/session_rig.h"

TestSuite(session_requests, .timeout = 30);

Test(session_requests, an_answer_finds_its_request_and_an_error_answer_fails_it)
{
        struct rig r;

        standing(&r);
        ask(&r, 0);
        ask(&r, 0);
        FEED(&r, ERROR, error, Moult__Error, MOULT__ERROR__INIT, m_.reply_to = r.first_asked + 2;
             b_.code = MOULT__ERROR_CODE__ERROR_BUSY; b_.text = message_bytes("busy"));
        cr_expect(eq(int, r.failures, 1));
        cr_expect(eq(int, r.error_code, MOULT_ERROR_BUSY));
        FEED(&r, STATE, state, Moult__TransactionState, MOULT__TRANSACTION_STATE__INIT,
             m_.reply_to = r.first_asked + 1);
        FEED(&r, STATE, state, Moult__TransactionState, MOULT__TRANSACTION_STATE__INIT,
             m_.reply_to = r.first_asked + 1);
        cr_expect(eq(int, r.answers, 1)); /* the second one answers nothing any more */
        rig_clear(&r);
}

Test(session_requests, an_answer_of_a_wrong_kind_fails_the_request)
{
        struct rig r;

        standing(&r);
        ask(&r, 0);
        FEED(&r, ACK, ack, Moult__Ack, MOULT__ACK__INIT, m_.reply_to = r.first_asked + 1);
        cr_expect(zero(int, r.answers));
        cr_expect(eq(int, r.failures, 1));
        cr_expect(eq(int, r.error_code, MOULT_ERROR_MALFORMED));
        rig_clear(&r);
}

Test(session_requests, a_refused_answer_fails_the_request)
{
        struct rig r;

        standing(&r);
        ask(&r, 0);
        FEED(&r, STATE, state, Moult__TransactionState, MOULT__TRANSACTION_STATE__INIT,
             m_.reply_to = r.first_asked + 1;
             b_.entries_blocked = 5);
        cr_expect(zero(int, r.answers));
        cr_expect(eq(int, r.failures, 1));
        rig_clear(&r);
}

static void standing_with_fetch(struct rig *r, guint timeout_ms)
{
        static const guint8 digest[32];
        Message m = MOULT__MESSAGE__INIT;
        Moult__Fetch fetch = MOULT__FETCH__INIT;

        rig_init(r, MOULT__ROLE__ROLE_AGENT);
        feed_hello(r, 1, MOULT__ROLE__ROLE_HOST, TRUE);
        fetch.manifest_digest = message_blob(digest, sizeof digest);
        fetch.length = LIMIT_FETCH_BYTES;
        m.body_case = MOULT__MESSAGE__BODY_FETCH;
        m.fetch = &fetch;
        session_request(r->session, &m, timeout_ms, rig_on_answer, r);
}

/* A part of the answer to the first request. */
#define FEED_PART(r, ...)                                                                                    \
        FEED(r, DATA, data, Moult__Data, MOULT__DATA__INIT, m_.reply_to = (r)->first_asked + 1; __VA_ARGS__)

Test(session_requests, data_parts_each_have_the_whole_time)
{
        struct rig r;

        standing_with_fetch(&r, 5000);
        for (int i = 0; i < 3; i++) {
                pass(&r, 4);
                FEED_PART(&r, b_.bytes = message_bytes("x"); b_.last = i == 2);
        }
        cr_expect(eq(int, r.parts, 3));
        cr_expect(eq(int, r.answers, 1));
        cr_expect(zero(int, r.failures));
        rig_clear(&r);
}

/* Whoever asked frees what it asked with at the first failure. */
Test(session_requests, a_refused_part_ends_the_request_even_if_it_is_not_the_last)
{
        g_autofree guint8 *large = g_malloc0(LIMIT_DATA_BYTES + 1);

        for (int i = 0; i < 3; i++) {
                struct rig r;

                standing_with_fetch(&r, 0);
                FEED_PART(&r, b_.bytes = message_bytes("x"));
                cr_expect(eq(int, r.parts, 1));
                if (i == 0)
                        FEED_PART(&r, b_.offset = 1);
                else if (i == 1)
                        FEED_PART(&r, b_.bytes = message_blob(large, LIMIT_DATA_BYTES + 1));
                else
                        FEED_PART(&r, b_.bytes = message_bytes("x"); b_.offset = LIMIT_FILE_SIZE + 1);
                cr_expect(eq(int, r.failures, 1), "refused part %d", i);
                cr_expect(eq(int, r.error_code, MOULT_ERROR_MALFORMED));
                FEED_PART(&r, b_.bytes = message_bytes("x"));
                memory_transport_set_status(r.wire, TRANSPORT_AWAY);
                pass(&r, 60);
                cr_expect(eq(int, r.lost, 1));
                cr_expect(eq(int, r.parts, 1), "refused part %d", i);
                cr_expect(eq(int, r.failures, 1), "refused part %d", i);
                rig_clear(&r);
        }
}

Test(session_requests, a_request_times_out_and_a_late_answer_is_dropped)
{
        struct rig r;

        standing(&r);
        ask(&r, 3000);
        pass(&r, 2);
        cr_expect(zero(int, r.failures));
        pass(&r, 1);
        cr_expect(eq(int, r.failures, 1));
        cr_expect(eq(int, r.error_code, MOULT_ERROR_TIMEOUT));
        FEED(&r, STATE, state, Moult__TransactionState, MOULT__TRANSACTION_STATE__INIT,
             m_.reply_to = r.first_asked + 1);
        cr_expect(zero(int, r.answers));
        cr_expect(eq(int, r.established, 1));
        rig_clear(&r);
}

Test(session_requests, a_forgotten_request_calls_nobody)
{
        struct rig r;

        standing(&r);
        session_forget(r.session, ask(&r, 1000));
        pass(&r, 10);
        cr_expect(zero(int, r.failures + r.answers));
        rig_clear(&r);
}

Test(session_requests, a_request_without_a_session_fails_from_the_loop_and_not_at_once)
{
        struct rig r;

        rig_init(&r, MOULT__ROLE__ROLE_HOST);
        ask(&r, 0);
        cr_expect(zero(int, r.failures));
        pass(&r, 0);
        cr_expect(eq(int, r.failures, 1));
        cr_expect(eq(int, r.error_code, MOULT_ERROR_IO));
        rig_clear(&r);
}

Test(session_requests, a_request_made_while_another_fails_is_not_lost_and_does_not_spin)
{
        struct rig r;

        standing(&r);
        ask(&r, 0);
        r.ask_again = TRUE;
        memory_transport_feed(r.wire, "x", 1);
        cr_expect(eq(int, r.failures, 1));
        pass(&r, 0);
        cr_expect(eq(int, r.failures, 2));
        rig_clear(&r);
}

Test(session_requests, a_silent_peer_is_asked_while_somebody_waits_and_then_given_up)
{
        struct rig r;
        g_autoptr(Message) command = NULL, ping = NULL;

        standing(&r);
        ask(&r, 0);
        command = take_message(&r);
        pass(&r, 9);
        cr_expect(eq(ptr, take_message(&r), NULL));
        pass(&r, 1);
        ping = take_message(&r);
        cr_assert(ne(ptr, ping, NULL));
        cr_expect(eq(int, (int)ping->body_case, MOULT__MESSAGE__BODY_PING));
        FEED(&r, ACK, ack, Moult__Ack, MOULT__ACK__INIT, m_.reply_to = r.first_asked + 2);
        pass(&r, 19);
        cr_expect(zero(int, r.lost));
        pass(&r, 1);
        cr_expect(eq(int, r.lost, 1));
        cr_expect(eq(int, r.error_code, MOULT_ERROR_TIMEOUT));
        rig_clear(&r);
}

Test(session_requests, a_watched_peer_is_asked_without_a_request)
{
        struct rig r;

        standing(&r);
        session_watch(r.session, TRUE);
        pass(&r, 20);
        cr_expect(eq(int, r.lost, 1));
        establish(&r);
        session_watch(r.session, FALSE);
        pass(&r, 100);
        cr_expect(eq(int, r.lost, 1));
        rig_clear(&r);
}
