/* proto/session_receive.c - the way into a session: three gates, then the owner.
 *
 * Frame gate: FrameParser, and no noise while established. Content gate: message_refusal(). State gate: hello
 * first (handshake.c decides what it means), message numbers without a gap, legality.c, answers only to what
 * was asked. */
#include "proto/legality.h"
#include "proto/limits.h"
#include "proto/refusal.h"
#include "proto/session_internal.h"

/* Receiving */

/* What the session answers by itself (hellos, pings, errors) the owner never sees, and so cannot limit: a
 * bucket of our own. */
static gboolean may_answer(Session *s)
{
        gint64 now = session_now_us(s);
        gint64 elapsed_us = MIN(now - s->answers_us, 60 * G_USEC_PER_SEC);
        guint64 forgiven = (guint64)MAX(elapsed_us, 0) * LIMIT_ANSWERS_RATE / G_USEC_PER_SEC;

        if (forgiven > 0) {
                s->answers -= MIN(s->answers, forgiven);
                s->answers_us = now;
        }
        if (s->answers >= LIMIT_ANSWERS_BURST)
                return FALSE;
        s->answers++;
        return TRUE;
}

/* From now on nothing but the clock makes us say hello. */
static void hold(Session *s)
{
        if (!s->held)
                s->next_hello_us = session_now_us(s) + HELLO_INTERVAL_US;
        s->held = TRUE;
}

/* Before each answer within an established session. */
static gboolean charge_answer(Session *s, gboolean *ret_go_on)
{
        *ret_go_on = TRUE;
        if (may_answer(s))
                return TRUE;
        *ret_go_on = session_lose_because(s, MOULT_ERROR_REFUSED,
                                          "more than %u answers a second were asked of the session itself",
                                          LIMIT_ANSWERS_RATE);
        if (*ret_go_on)
                hold(s);
        return FALSE;
}

/* Answers a hello that leads to no session: the peer's operator should see why. */
static void answer_hello_error(Session *s, Moult__ErrorCode code, const char *why)
{
        Message m = MOULT__MESSAGE__INIT;
        Moult__Error e = MOULT__ERROR__INIT;

        if (!may_answer(s))
                return;
        e.code = code;
        e.text = message_bytes(why);
        m.body_case = MOULT__MESSAGE__BODY_ERROR;
        m.error = &e;
        session_send_unnumbered(s, &m);
}

static gboolean refuse_peer(Session *s, const char *why, gboolean first)
{
        g_autofree char *text =
                g_strdup_printf("%s: this peer cannot be talked to: %s", session_peer(s), why);
        g_autoptr(GError) error = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED, text);

        answer_hello_error(s, MOULT__ERROR_CODE__ERROR_UNSUPPORTED, why);
        s->next_hello_us = session_now_us(s) + REFUSED_INTERVAL_US;
        if (first)
                s->events->lost(s, error, s->user);
        return s->transport != NULL;
}

static gboolean on_hello(Session *s, const Moult__Hello *hello)
{
        gboolean answer;
        const char *why;
        enum handshake_verdict verdict = handshake_receive(&s->handshake, hello, &answer, &why);

        if (verdict == HANDSHAKE_PEER_ANEW) {
                if (!session_lose_because(s, MOULT_ERROR_IO, "the other side has begun a new session"))
                        return FALSE;
                verdict = handshake_receive(&s->handshake, hello, &answer, &why);
        }
        switch (verdict) {
        case HANDSHAKE_IGNORE:
        case HANDSHAKE_PEER_ANEW:
                break;
        case HANDSHAKE_ANSWER:
                if (!s->held && may_answer(s))
                        session_send_hello(s);
                else
                        hold(s);
                break;
        case HANDSHAKE_REFUSED:
                return refuse_peer(s, why, answer);
        case HANDSHAKE_ESTABLISHED:
                if (answer)
                        session_send_hello(s);
                s->refusal_told = FALSE;
                s->last_seen_id = handshake_first_number(s->handshake.peer_nonce);
                s->waiting_since_us = session_now_us(s);
                session_keep_capabilities(s, hello);
                s->events->established(s, hello, s->user);
                break;
        }
        return s->transport != NULL;
}

static gboolean on_unestablished(Session *s, const Message *m)
{
        g_autofree char *text = NULL;
        g_autoptr(GError) error = NULL;

        /* All but one kind belong to a session that is over. */
        if (m->body_case != MOULT__MESSAGE__BODY_ERROR || m->id != 0 || m->reply_to != 0 || s->refusal_told)
                return TRUE;
        if (m->error->code != MOULT__ERROR_CODE__ERROR_UNSUPPORTED &&
            m->error->code != MOULT__ERROR_CODE__ERROR_MALFORMED)
                return TRUE;
        s->refusal_told = TRUE;
        text = message_string(m->error->text);
        error = g_error_new(MOULT_ERROR, (int)m->error->code, "%s: the other side will not talk to us: %s",
                            session_peer(s), text);
        s->events->lost(s, error, s->user);
        return s->transport != NULL;
}

static gboolean reply_code(Session *s, const Message *request, MoultError code, const char *text)
{
        g_autoptr(GError) error = g_error_new_literal(MOULT_ERROR, code, text);
        gboolean go_on;

        if (charge_answer(s, &go_on))
                session_reply_error(s, request, error);
        return go_on;
}

static gboolean on_answer(Session *s, const Message *m, const char *refusal)
{
        struct request_call call;
        g_autoptr(GError) error = NULL;

        if (!requests_take_answer(s->requests, m, refusal, session_now_us(s), &call, &error))
                return TRUE; /* its request has timed out or was forgotten */
        call.done(s, error ? NULL : m, error, call.user);
        return s->transport != NULL;
}

/* A message of the established session, in order. */
static gboolean on_message(Session *s, const Message *m, const char *refusal)
{
        gboolean go_on;
        const char *why;

        if (m->reply_to != 0)
                return on_answer(s, m, refusal);
        if (m->body_case == MOULT__MESSAGE__BODY__NOT_SET)
                return reply_code(s, m, MOULT_ERROR_UNSUPPORTED, "this kind of message is not known here");
        if (refusal)
                return reply_code(s, m, MOULT_ERROR_MALFORMED, refusal);
        why = legality_refusal(m->body_case, s->handshake.peer_role);
        if (why)
                return reply_code(s, m, MOULT_ERROR_WRONG_STATE, why);
        if (m->body_case == MOULT__MESSAGE__BODY_PING) {
                if (charge_answer(s, &go_on))
                        session_reply_ack(s, m);
                return go_on;
        }
        if (m->body_case == MOULT__MESSAGE__BODY_ACK)
                return TRUE;
        s->events->message(s, m, s->user);
        return s->transport != NULL;
}

/* False if the session was closed meanwhile. */
static gboolean on_frame(Session *s, GBytes *payload)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(Message) m = message_decode(payload, &error);
        const char *refusal;

        if (!m) {
                if (!s->handshake.established)
                        return TRUE;
                return session_lose_because(s, MOULT_ERROR_MALFORMED, "%s", error->message);
        }
        refusal = message_refusal(m);
        if (m->body_case == MOULT__MESSAGE__BODY_HELLO) {
                if (!refusal)
                        return on_hello(s, m->hello);
                answer_hello_error(s, MOULT__ERROR_CODE__ERROR_MALFORMED, refusal);
                return TRUE;
        }
        if (!s->handshake.established)
                return refusal ? TRUE : on_unestablished(s, m);
        if (m->id <= s->last_seen_id) /* repeated, or of another session, or of none (0) */
                return TRUE;
        if (m->id != s->last_seen_id + 1)
                return session_lose_because(s, MOULT_ERROR_IO,
                                            "messages were lost (number %" G_GUINT64_FORMAT
                                            " came after %" G_GUINT64_FORMAT ")",
                                            m->id, s->last_seen_id);
        s->last_seen_id = m->id;
        return on_message(s, m, refusal);
}

/* Noise means that frames were lost, and what comes now may be of any conversation. */
static gboolean check_noise(Session *s)
{
        uint64_t noise = frame_parser_noise(s->parser);

        if (noise > LIMIT_NOISE) {
                g_autoptr(GError) error =
                        g_error_new(MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                    "%s: %" G_GUINT64_FORMAT " bytes came without one frame of ours: "
                                    "is something else connected there?",
                                    session_peer(s), noise);
                session_finish(s, error);
                return FALSE;
        }
        if (noise > 0 && s->handshake.established)
                return session_lose_because(s, MOULT_ERROR_IO,
                                            "%" G_GUINT64_FORMAT " bytes came that are no frame", noise);
        return TRUE;
}

void session_receive(Session *s, const void *data, size_t len)
{
        gboolean any = FALSE;

        s->last_bytes_us = session_now_us(s);
        s->ping_sent_us = 0;
        frame_parser_push(s->parser, data, len);
        for (;;) {
                g_autoptr(GBytes) payload = frame_parser_pull(s->parser);

                if (!check_noise(s) || !payload)
                        break;
                any = TRUE;
                if (!on_frame(s, payload))
                        break;
        }
        if (!s->transport)
                return;
        if (frame_parser_pending(s->parser) == 0)
                s->half_frame_since_us = 0;
        else if (any || s->half_frame_since_us == 0)
                s->half_frame_since_us = s->last_bytes_us;
        session_arm(s);
}
