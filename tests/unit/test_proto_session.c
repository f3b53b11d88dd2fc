/* tests/unit/test_proto_session.c - one session: its beginnings and ends, and what it lets in and out. */
#include "tests/support/session_rig.h"

TestSuite(session, .timeout = 30);

Test(session, repeats_its_hello_every_second_until_it_stands_and_then_has_no_timer)
{
        struct rig r;

        rig_init(&r, MOULT__ROLE__ROLE_HOST);
        cr_expect(eq(int, take_hellos(&r), 1));
        pass(&r, 5);
        cr_expect(eq(int, take_hellos(&r), 5));
        establish(&r);
        cr_expect(eq(int, r.established, 1));
        cr_expect(eq(i64, r.time.deadline_us, G_MAXINT64)); /* idle: no wake-up, ever */
        pass(&r, 3600);
        cr_expect(eq(int, take_hellos(&r), 0));
        rig_clear(&r);
}

Test(session, messages_before_the_hello_belong_to_a_session_that_is_over)
{
        struct rig r;

        rig_init(&r, MOULT__ROLE__ROLE_HOST);
        r.next_id = 1;
        FEED_STATE(&r);
        cr_expect(zero(int, r.messages));
        establish(&r);
        FEED_STATE(&r);
        cr_expect(eq(int, r.messages, 1));
        rig_clear(&r);
}

Test(session, noise_ends_it_and_what_comes_next_is_not_delivered)
{
        struct rig r;

        standing(&r);
        ask(&r, 0);
        memory_transport_feed(r.wire, "x", 1);
        cr_expect(eq(int, r.lost, 1));
        cr_expect(eq(int, r.failures, 1));
        cr_expect(ne(ptr, strstr(r.text, "no frame"), NULL), "%s", r.text);
        FEED_STATE(&r);
        cr_expect(zero(int, r.messages));
        establish(&r);
        cr_expect(eq(int, r.established, 2));
        FEED_STATE(&r);
        cr_expect(eq(int, r.messages, 1));
        rig_clear(&r);
}

Test(session, a_frame_within_a_damaged_frame_is_never_delivered)
{
        struct rig r;
        Message m = MOULT__MESSAGE__INIT;
        Moult__TransactionState state = MOULT__TRANSACTION_STATE__INIT;
        g_autoptr(GBytes) payload = NULL, inner = NULL, outer = NULL;
        g_autoptr(GByteArray) bytes = NULL;

        standing(&r);
        m.id = r.next_id; /* just the number that is due */
        m.body_case = MOULT__MESSAGE__BODY_STATE;
        m.state = &state;
        payload = message_pack(&m);
        inner = frame_encode(g_bytes_get_data(payload, NULL), g_bytes_get_size(payload));
        outer = frame_encode(g_bytes_get_data(inner, NULL), g_bytes_get_size(inner));
        bytes = g_byte_array_new();
        g_byte_array_append(bytes, (const guint8 *)g_bytes_get_data(outer, NULL) + 1,
                            (guint)g_bytes_get_size(outer) - 1);
        memory_transport_feed(r.wire, bytes->data, bytes->len); /* the outer header has lost a byte */
        cr_expect(zero(int, r.messages));
        cr_expect(eq(int, r.lost, 1));
        rig_clear(&r);
}

Test(session, a_gap_in_the_numbers_ends_it_and_a_repetition_is_dropped)
{
        struct rig r;

        standing(&r);
        FEED_STATE(&r);
        r.next_id -= 1;
        FEED_STATE(&r);
        cr_expect(eq(int, r.messages, 1));
        cr_expect(zero(int, r.lost));
        r.next_id += 1;
        FEED_STATE(&r);
        cr_expect(eq(int, r.messages, 1));
        cr_expect(eq(int, r.lost, 1));
        cr_expect(ne(ptr, strstr(r.text, "messages were lost"), NULL), "%s", r.text);
        rig_clear(&r);
}

Test(session, a_frame_of_an_older_session_is_not_delivered_in_this_one)
{
        struct rig r;
        guint64 old;

        standing(&r);
        old = r.next_id;
        FEED_STATE(&r);
        r.peer_nonce = 0; /* its numbers begin lower, the next time higher */
        for (int i = 0; i < 2; i++, r.peer_nonce = 9) {
                feed_hello(&r, 1, MOULT__ROLE__ROLE_AGENT, FALSE);
                establish(&r);
                cr_assert(session_is_established(r.session));
                r.messages = 0;
                r.next_id = old;
                FEED_STATE(&r);
                cr_expect(zero(int, r.messages));
        }
        rig_clear(&r);
}

Test(session, a_new_nonce_of_the_peer_is_lost_and_established_again)
{
        struct rig r;

        standing(&r);
        ask(&r, 0);
        r.peer_nonce = 2;
        feed_hello(&r, 1, MOULT__ROLE__ROLE_AGENT, FALSE);
        cr_expect(eq(int, r.lost, 1));
        cr_expect(eq(int, r.failures, 1));
        cr_expect(eq(int, r.error_code, MOULT_ERROR_IO));
        establish(&r);
        cr_expect(eq(int, r.established, 2));
        rig_clear(&r);
}

Test(session, a_peer_that_restarts_all_the_time_is_slowed_down_and_still_served)
{
        struct rig r;

        rig_init(&r, MOULT__ROLE__ROLE_HOST);
        for (int i = 0; i < 1000; i++) {
                r.peer_nonce = (guint8)(i % 200 + 1);
                feed_hello(&r, 1, MOULT__ROLE__ROLE_AGENT, FALSE);
                feed_hello(&r, 1, MOULT__ROLE__ROLE_AGENT, TRUE);
        }
        /* One answer for each start; what is said first comes at its own pace, however often the peer begins
         * anew. The test knows a nonce that was never sent; a real peer could not even come so far. */
        cr_expect(le(int, take_hellos(&r), 1020));
        pass(&r, 30);
        take_hellos(&r);
        r.established = 0;
        r.peer_nonce = 250;
        feed_hello(&r, 1, MOULT__ROLE__ROLE_AGENT, FALSE);
        pass(&r, 2);
        cr_expect(gt(int, take_hellos(&r), 0));
        establish(&r);
        cr_expect(gt(int, r.established, 0));
        rig_clear(&r);
}

Test(session, another_version_is_told_on_both_sides_and_asked_rarely)
{
        struct rig r;
        g_autoptr(Message) m = NULL;

        rig_init(&r, MOULT__ROLE__ROLE_HOST);
        take_hellos(&r);
        feed_hello(&r, 2, MOULT__ROLE__ROLE_AGENT, FALSE);
        cr_expect(eq(int, r.lost, 1));
        cr_expect(eq(int, r.error_code, MOULT_ERROR_UNSUPPORTED));
        cr_expect(ne(ptr, strstr(r.text, "newer versions"), NULL), "%s", r.text);
        m = take(&r);
        cr_assert(ne(ptr, m, NULL));
        cr_expect(eq(int, (int)m->body_case, MOULT__MESSAGE__BODY_ERROR));
        cr_expect(eq(int, (int)m->error->code, MOULT__ERROR_CODE__ERROR_UNSUPPORTED));
        feed_hello(&r, 2, MOULT__ROLE__ROLE_AGENT, FALSE);
        cr_expect(eq(int, r.lost, 1)); /* once for each peer */
        message_free(take(&r));
        pass(&r, 29);
        cr_expect(zero(int, take_hellos(&r)));
        r.peer_nonce = 9; /* upgraded */
        feed_hello(&r, 1, MOULT__ROLE__ROLE_AGENT, FALSE);
        establish(&r);
        cr_expect(eq(int, r.established, 1));
        rig_clear(&r);
}

Test(session, a_refusal_by_the_peer_is_told_once)
{
        struct rig r;

        rig_init(&r, MOULT__ROLE__ROLE_HOST);
        for (int i = 0; i < 3; i++) {
                Message m = MOULT__MESSAGE__INIT;
                Moult__Error e = MOULT__ERROR__INIT;

                e.code = MOULT__ERROR_CODE__ERROR_UNSUPPORTED;
                e.text = message_bytes("too old");
                m.body_case = MOULT__MESSAGE__BODY_ERROR;
                m.error = &e;
                memory_transport_feed_frame(r.wire, &m);
        }
        cr_expect(eq(int, r.lost, 1));
        cr_expect(ne(ptr, strstr(r.text, "too old"), NULL), "%s", r.text);
        rig_clear(&r);
}

Test(session, a_hello_that_is_refused_is_answered_with_the_field_at_fault)
{
        struct rig r;
        Message m = MOULT__MESSAGE__INIT;
        Moult__Hello hello = MOULT__HELLO__INIT;
        g_autoptr(Message) answer = NULL;

        rig_init(&r, MOULT__ROLE__ROLE_HOST);
        hello.nonce = message_bytes("not sixteen");
        m.body_case = MOULT__MESSAGE__BODY_HELLO;
        m.hello = &hello;
        memory_transport_feed_frame(r.wire, &m);
        answer = take_message(&r);
        cr_assert(ne(ptr, answer, NULL));
        cr_expect(eq(int, (int)answer->error->code, MOULT__ERROR_CODE__ERROR_MALFORMED));
        cr_expect(zero(int, r.established + r.lost));
        memory_transport_feed_frame(r.wire, answer); /* and whoever gets such an answer tells its owner */
        cr_expect(eq(int, r.lost, 1));
        cr_expect(eq(int, r.error_code, MOULT_ERROR_MALFORMED));
        cr_expect(ne(ptr, strstr(r.text, "hello.nonce"), NULL), "%s", r.text);
        rig_clear(&r);
}

Test(session, an_unknown_message_is_answered_unsupported)
{
        struct rig r;
        Message m = MOULT__MESSAGE__INIT;
        g_autoptr(Message) answer = NULL;

        standing(&r);
        m.id = r.next_id; /* no body that this version knows */
        memory_transport_feed_frame(r.wire, &m);
        answer = take_message(&r);
        cr_assert(ne(ptr, answer, NULL));
        cr_expect(eq(u64, answer->reply_to, r.next_id));
        cr_expect(eq(int, (int)answer->error->code, MOULT__ERROR_CODE__ERROR_UNSUPPORTED));
        rig_clear(&r);
}

Test(session, a_refused_message_is_answered_malformed_and_not_delivered)
{
        struct rig r;
        g_autoptr(Message) answer = NULL;

        standing(&r);
        FEED(&r, FETCH, fetch, Moult__Fetch, MOULT__FETCH__INIT);
        answer = take_message(&r);
        cr_assert(ne(ptr, answer, NULL));
        cr_expect(eq(int, (int)answer->error->code, MOULT__ERROR_CODE__ERROR_MALFORMED));
        cr_expect(zero(int, r.messages));
        cr_expect(zero(int, r.lost));
        rig_clear(&r);
}

Test(session, a_message_that_is_not_the_peers_to_send_is_answered_wrong_state)
{
        struct rig r;
        g_autoptr(Message) answer = NULL;

        standing(&r);
        FEED(&r, STATUS_QUERY, status_query, Moult__StatusQuery,
             MOULT__STATUS_QUERY__INIT); /* from an agent */
        answer = take_message(&r);
        cr_assert(ne(ptr, answer, NULL));
        cr_expect(eq(int, (int)answer->error->code, MOULT__ERROR_CODE__ERROR_WRONG_STATE));
        cr_expect(zero(int, r.messages));
        rig_clear(&r);
}

Test(session, a_ping_is_acknowledged)
{
        struct rig r;
        g_autoptr(Message) answer = NULL;

        standing(&r);
        FEED_PING(&r);
        answer = take_message(&r);
        cr_assert(ne(ptr, answer, NULL));
        cr_expect(eq(int, (int)answer->body_case, MOULT__MESSAGE__BODY_ACK));
        cr_expect(eq(u64, answer->reply_to, r.next_id - 1));
        rig_clear(&r);
}

/* None of this is seen by the owner, whose limits it would pass by. */
Test(session, a_flood_of_pings_ends_the_session_and_is_answered_to_a_bound)
{
        struct rig r;
        guint acks = 0;

        standing(&r);
        for (int i = 0; i < 5000; i++)
                FEED_PING(&r);
        for (Message *m; (m = take(&r)); message_free(m))
                acks += m->body_case == MOULT__MESSAGE__BODY_ACK;
        cr_expect(le(u32, acks, LIMIT_ANSWERS_BURST));
        cr_expect(eq(int, r.lost, 1));
        pass(&r, 2);
        establish(&r);
        cr_expect(eq(int, r.established, 2), "it may come back");
        FEED_PING(&r);
        pass(&r, 1);
        cr_expect(eq(int, r.lost, 1));
        rig_clear(&r);
}

Test(session, a_flood_of_refused_messages_ends_the_session)
{
        struct rig r;

        standing(&r);
        for (int i = 0; i < 5000; i++)
                FEED(&r, OFFER, offer, Moult__Offer, MOULT__OFFER__INIT);
        cr_expect(eq(int, r.lost, 1));
        cr_expect(eq(int, r.messages, 0));
        rig_clear(&r);
}

Test(session, a_flood_of_hellos_with_new_nonces_is_answered_to_a_bound)
{
        struct rig r;

        rig_init(&r, MOULT__ROLE__ROLE_HOST);
        for (int i = 0; i < 5000; i++) {
                r.peer_nonce = (guint8)(i % 250 + 1);
                feed_hello(&r, 1, MOULT__ROLE__ROLE_AGENT, FALSE);
        }
        cr_expect(le(int, take_hellos(&r), (int)LIMIT_ANSWERS_BURST + 1));
        pass(&r, 2);
        cr_expect(gt(int, take_hellos(&r), 0), "the clock still says hello");
        establish(&r);
        cr_expect(eq(int, r.established, 1));
        rig_clear(&r);
}

Test(session, a_frame_that_does_not_end_is_given_up)
{
        struct rig r;
        g_autoptr(GBytes) f = frame_encode("0123456789", 10);

        standing(&r);
        memory_transport_feed(r.wire, g_bytes_get_data(f, NULL), 20);
        pass(&r, 9);
        cr_expect(zero(int, r.lost));
        pass(&r, 1);
        cr_expect(eq(int, r.lost, 1));
        establish(&r);
        cr_expect(eq(int, r.established, 2));
        rig_clear(&r);
}

Test(session, hellos_swallowed_by_half_a_frame_are_heard_again_later)
{
        struct rig r;
        g_autofree guint8 *big = g_malloc0(LIMIT_FRAME_PAYLOAD);
        g_autoptr(GBytes) f = frame_encode(big, LIMIT_FRAME_PAYLOAD);

        rig_init(&r, MOULT__ROLE__ROLE_HOST);
        memory_transport_feed(r.wire, g_bytes_get_data(f, NULL),
                              100); /* the peer was killed here, and began anew */
        for (int i = 0; i < 12 && !r.established; i++) {
                establish(&r);
                pass(&r, 1);
        }
        cr_expect(eq(int, r.established, 1));
        rig_clear(&r);
}

Test(session, a_peer_that_does_not_read_is_lost_with_a_bounded_queue)
{
        struct rig r;
        static const guint8 push_id[16];
        guint64 sent = 0;

        standing(&r);
        for (int i = 0; i < 100000000 && session_is_established(r.session); i++) {
                Message m = MOULT__MESSAGE__INIT;
                Moult__PushCommand c = MOULT__PUSH_COMMAND__INIT;

                c.push_id = message_blob(push_id, sizeof push_id);
                m.body_case = MOULT__MESSAGE__BODY_COMMAND;
                m.command = &c;
                sent = session_send(r.session, &m) ? sent + 1 : sent;
        }
        cr_expect(gt(sz, session_queued(r.session), LIMIT_SEND_QUEUE));
        cr_expect(lt(sz, session_queued(r.session), LIMIT_SEND_QUEUE + 1000));
        cr_expect(zero(int, r.lost)); /* not while the owner is calling us */
        pass(&r, 0);
        cr_expect(eq(int, r.lost, 1));
        cr_expect(ne(ptr, strstr(r.text, "does not take what we send"), NULL), "%s", r.text);
        pass(&r, 60); /* hellos do not pile up on top */
        cr_expect(lt(sz, session_queued(r.session), LIMIT_SEND_QUEUE + 1000));
        rig_clear(&r);
}

Test(session, an_answer_larger_than_a_frame_becomes_an_error)
{
        struct rig r;
        g_autofree char *path = g_strnfill(200, 'a');
        g_autofree char *reason = g_strnfill(LIMIT_TEXT, 'r');
        Moult__PlanItem item = MOULT__PLAN_ITEM__INIT, *items[100];
        Moult__PlanPage page = MOULT__PLAN_PAGE__INIT;
        Message m = MOULT__MESSAGE__INIT, request = MOULT__MESSAGE__INIT;
        g_autoptr(Message) answer = NULL;

        rig_init(&r, MOULT__ROLE__ROLE_AGENT);
        feed_hello(&r, 1, MOULT__ROLE__ROLE_HOST, TRUE);
        item.path = message_bytes(path);
        item.reason = message_bytes(reason);
        for (size_t i = 0; i < G_N_ELEMENTS(items); i++)
                items[i] = &item;
        page.push_id = message_blob(path, 16);
        page.total = page.n_items = G_N_ELEMENTS(items);
        page.items = items;
        m.body_case = MOULT__MESSAGE__BODY_PLAN_PAGE;
        m.plan_page = &page;
        request.id = 77;
        session_reply(r.session, &request, &m);
        answer = take_message(&r);
        cr_assert(ne(ptr, answer, NULL));
        cr_expect(eq(u64, answer->reply_to, 77));
        cr_expect(eq(int, (int)answer->body_case, MOULT__MESSAGE__BODY_ERROR));
        rig_clear(&r);
}

Test(session, endless_noise_closes)
{
        struct rig r;
        g_autofree guint8 *noise = g_malloc0(1 << 20);

        rig_init(&r, MOULT__ROLE__ROLE_HOST);
        for (int i = 0; i < 17 && !r.closed; i++)
                memory_transport_feed(r.wire, noise, 1 << 20);
        cr_expect(eq(int, r.closed, 1));
        cr_expect(memory_transport_is_freed(r.wire));
        rig_clear(&r);
}

Test(session, closed_transport_fails_requests_then_tells)
{
        struct rig r;

        standing(&r);
        ask(&r, 0);
        memory_transport_set_status(r.wire, TRANSPORT_CLOSED);
        cr_expect(eq(int, r.failures, 1));
        cr_expect(eq(int, r.closed, 1));
        cr_expect(zero(int, r.lost));
        rig_clear(&r);
}

Test(session, away_is_lost_and_up_is_established_again)
{
        struct rig r;

        standing(&r);
        ask(&r, 0);
        memory_transport_set_status(r.wire, TRANSPORT_AWAY);
        cr_expect(eq(int, r.lost, 1));
        cr_expect(eq(int, r.failures, 1));
        pass(&r, 60);
        cr_expect(zero(int, take_hellos(&r))); /* nobody there to read it */
        memory_transport_set_status(r.wire, TRANSPORT_UP);
        r.peer_nonce = 5;
        establish(&r);
        cr_expect(eq(int, r.established, 2));
        rig_clear(&r);
}

Test(session, owner_may_drop_it_in_lost)
{
        struct rig r;

        standing(&r);
        ask(&r, 0);
        r.close_in_lost = TRUE;
        memory_transport_feed(r.wire, "noise", 5);
        cr_expect(eq(ptr, r.session, NULL));
        cr_expect(memory_transport_is_freed(r.wire));
        rig_clear(&r);
}

Test(session, owner_may_drop_it_in_message_and_the_rest_of_the_bytes_is_not_read)
{
        struct rig r;
        Message m = MOULT__MESSAGE__INIT;
        Moult__TransactionState state = MOULT__TRANSACTION_STATE__INIT;
        g_autoptr(GByteArray) two = g_byte_array_new();

        standing(&r);
        r.close_in_message = TRUE;
        m.body_case = MOULT__MESSAGE__BODY_STATE;
        m.state = &state;
        for (m.id = r.next_id; m.id < r.next_id + 2; m.id++) {
                g_autoptr(GBytes) payload = message_pack(&m);
                g_autoptr(GBytes) f =
                        frame_encode(g_bytes_get_data(payload, NULL), g_bytes_get_size(payload));

                g_byte_array_append(two, g_bytes_get_data(f, NULL), (guint)g_bytes_get_size(f));
        }
        memory_transport_feed(r.wire, two->data, two->len);
        cr_expect(eq(int, r.messages, 1));
        cr_expect(eq(ptr, r.session, NULL));
        rig_clear(&r);
}

/* --- packed frames --- */

static guint32 bytes_of_an_answer(const char *capability)
{
        static guint8 text[4096];
        struct rig r;
        Message m = MOULT__MESSAGE__INIT;
        Moult__Error e = MOULT__ERROR__INIT;
        g_autoptr(GBytes) frame = NULL;
        guint32 n;

        memset(text, 'x', sizeof text);
        rig_init(&r, MOULT__ROLE__ROLE_HOST);
        r.peer_can = capability;
        establish(&r);
        e.text = message_blob(text, sizeof text);
        m.body_case = MOULT__MESSAGE__BODY_ERROR;
        m.error = &e;
        cr_assert(ne(u64, session_send(r.session, &m), 0));
        frame = memory_transport_take(r.wire);
        n = (guint32)g_bytes_get_size(frame);
        rig_clear(&r);
        return n;
}

Test(session, frames_are_packed_for_a_peer_that_says_it_unpacks_them_and_for_no_other)
{
        cr_expect(gt(u32, bytes_of_an_answer(NULL), 4096));
        cr_expect(gt(u32, bytes_of_an_answer("pmem"), 4096));
        cr_expect(lt(u32, bytes_of_an_answer(CAPABILITY_ZSTD), 1024));
}

/* Of an answer with 4096 bytes of a file. */
static guint32 bytes_of_a_file(gboolean near)
{
        static guint8 text[4096];
        struct rig r;
        Message m = MOULT__MESSAGE__INIT;
        Moult__TreeData data = MOULT__TREE_DATA__INIT;
        g_autoptr(GBytes) frame = NULL;
        guint32 n;

        memset(text, 'x', sizeof text);
        rig_init(&r, MOULT__ROLE__ROLE_HOST);
        r.peer_can = CAPABILITY_ZSTD;
        if (near)
                memory_transport_set_near(r.wire);
        establish(&r);
        data.bytes = message_blob(text, sizeof text);
        m.body_case = MOULT__MESSAGE__BODY_TREE_DATA;
        m.tree_data = &data;
        cr_assert(ne(u64, session_send(r.session, &m), 0));
        frame = memory_transport_take(r.wire);
        n = (guint32)g_bytes_get_size(frame);
        rig_clear(&r);
        return n;
}

Test(session, what_a_guest_tells_of_its_files_is_packed_for_a_network_only)
{
        cr_expect(gt(u32, bytes_of_a_file(TRUE), 4096));
        cr_expect(lt(u32, bytes_of_a_file(FALSE), 1024));
}

Test(session, says_that_it_unpacks_frames)
{
        struct rig r;
        g_autoptr(Message) m = NULL;

        rig_init(&r, MOULT__ROLE__ROLE_HOST);
        m = take(&r);
        cr_assert(eq(sz, m->hello->n_capabilities, 1));
        cr_expect(zero(int, memcmp(m->hello->capabilities[0].data, CAPABILITY_ZSTD, 4)));
        rig_clear(&r);
}
