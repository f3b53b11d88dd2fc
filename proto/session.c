/* proto/session.c - one conversation over one transport: when it begins, when it is lost, and what time does
 * to it.
 *
 * Bytes come in through session_receive.c and go out through session_send.c. What a hello means is decided by
 * handshake.c, which is pure; what waits for an answer is kept by requests.c. All that happens later - hello
 * again, time-outs, faults found while the owner was calling us - happens in session_tick(), for which there
 * is one timer, armed only while something is due. Handlers may close and unref us: each way in holds a
 * reference, and looks after each call. */
#include "proto/session.h"

#include <string.h>

#include "common/digest.h"
#include "proto/limits.h"
#include "proto/session_internal.h"

#define SILENCE_US    (10 * G_USEC_PER_SEC) /* before a ping, and again before the peer is given up */
#define HALF_FRAME_US (10 * G_USEC_PER_SEC) /* for one frame, from its first byte to its last */
/* A peer that begins anew all the time gets this many handshakes at once, then one for each
 * HELLO_INTERVAL_US. */
#define QUICK_ATTEMPTS    5u
#define QUICK_ATTEMPTS_US (10 * G_USEC_PER_SEC)

gint64 session_now_us(Session *s)
{
        return s->env->now_us(s->env_user);
}

/* Deadlines */

static gboolean cares_about_silence(const Session *s)
{
        return s->handshake.established && (s->watch || requests_waiting(s->requests) > 0);
}

static gint64 silence_deadline_us(const Session *s)
{
        if (!cares_about_silence(s))
                return G_MAXINT64;
        if (s->ping_sent_us != 0)
                return s->ping_sent_us + SILENCE_US;
        return MAX(s->last_bytes_us, s->waiting_since_us) + SILENCE_US;
}

void session_arm(Session *s)
{
        gint64 next = requests_deadline_us(s->requests);

        if (!s->transport)
                return;
        if (s->fault)
                next = 0;
        if (s->up && !s->handshake.established)
                next = MIN(next, s->next_hello_us);
        if (s->half_frame_since_us != 0)
                next = MIN(next, s->half_frame_since_us + HALF_FRAME_US);
        next = MIN(next, silence_deadline_us(s));
        s->env->arm(s->env_user, s, next);
}

/* The session's beginnings and ends */

static void begin_attempt(Session *s)
{
        guint8 nonce[HANDSHAKE_NONCE_SIZE];
        gint64 now = session_now_us(s);

        s->env->random(s->env_user, nonce, sizeof nonce);
        handshake_begin(&s->handshake, nonce);
        s->last_sent_id = handshake_first_number(nonce);
        s->ping_sent_us = 0;
        if (now - s->attempts_since_us > QUICK_ATTEMPTS_US) {
                s->attempts_since_us = now;
                s->attempts = 0;
        }
        s->held = ++s->attempts > QUICK_ATTEMPTS;
        s->next_hello_us = s->held ? now + HELLO_INTERVAL_US : now;
}

/* Calls what is due. False if a handler closed the session. */
static gboolean call_due(Session *s)
{
        guint64 newest = requests_newest(s->requests); /* what a handler asks now fails in the next round */
        struct request_call call;
        GError *error = NULL;

        while (s->transport && requests_take_due(s->requests, newest, session_now_us(s), &call, &error)) {
                call.done(s, NULL, error, call.user);
                g_clear_error(&error);
        }
        return s->transport != NULL;
}

/* Fails what waits, tells the owner, and gets ready for the next attempt. False if the owner closed the
 * session. */
gboolean session_lose(Session *s, const GError *why)
{
        gboolean was_established = s->handshake.established;

        g_clear_error(&s->fault);
        begin_attempt(s);
        requests_fail_all(s->requests, why);
        if (!call_due(s))
                return FALSE;
        if (was_established)
                s->events->lost(s, why, s->user);
        return s->transport != NULL;
}

gboolean session_lose_because(Session *s, MoultError code, const char *format, ...)
{
        g_autofree char *text = NULL;
        g_autoptr(GError) error = NULL;
        va_list ap;

        va_start(ap, format);
        text = g_strdup_vprintf(format, ap);
        va_end(ap);
        error = g_error_new(MOULT_ERROR, code, "%s: %s; beginning anew", session_peer(s), text);
        return session_lose(s, error);
}

/* Final: nothing comes after this. */
void session_finish(Session *s, const GError *why)
{
        s->handshake.established = FALSE;
        s->up = FALSE;
        requests_fail_all(s->requests, why);
        if (!call_due(s))
                return;
        s->events->closed(s, why, s->user);
        session_close(s); /* if the owner has not: no byte is of interest any more */
}

static void on_bytes(gpointer user, const void *data, size_t len)
{
        g_autoptr(SessionInUse) s = session_enter(user);

        if (s->up)
                session_receive(s, data, len);
}

static void on_writable(gpointer user)
{
        g_autoptr(SessionInUse) s = session_enter(user);

        if (s->handshake.established && !s->fault && s->events->writable)
                s->events->writable(s, s->user);
}

static void forget_stream(Session *s)
{
        frame_parser_reset(s->parser);
        s->half_frame_since_us = 0;
}

static void on_status(gpointer user, TransportStatus status, const GError *error)
{
        g_autoptr(SessionInUse) s = session_enter(user);

        forget_stream(s);
        switch (status) {
        case TRANSPORT_UP:
                s->up = TRUE;
                s->refusal_told = FALSE;
                if (s->handshake.established) {
                        if (!session_lose_because(s, MOULT_ERROR_IO, "the connection was made anew"))
                                return;
                } else {
                        begin_attempt(s);
                }
                if (!s->held)
                        session_send_hello(s);
                break;
        case TRANSPORT_AWAY:
                s->up = FALSE;
                if (!session_lose(s, error))
                        return;
                break;
        case TRANSPORT_CLOSED:
                session_finish(s, error);
                return;
        }
        session_arm(s);
}

static const struct transport_events transport_events = {on_bytes, on_writable, on_status};

/* Time */

void session_tick(Session *session)
{
        g_autoptr(SessionInUse) s = session_enter(session);
        g_autoptr(GError) fault = g_steal_pointer(&s->fault);
        gint64 now = session_now_us(s);

        if (!s->transport)
                return;
        if (fault && !session_lose(s, fault))
                return;
        if (!call_due(s))
                return;
        if (s->half_frame_since_us != 0 && now >= s->half_frame_since_us + HALF_FRAME_US) {
                forget_stream(s);
                if (s->handshake.established &&
                    !session_lose_because(s, MOULT_ERROR_IO, "a frame has begun and does not end"))
                        return;
        }
        if (now >= silence_deadline_us(s)) {
                Message m = MOULT__MESSAGE__INIT;
                Moult__Ping ping = MOULT__PING__INIT;

                if (s->ping_sent_us != 0) {
                        if (!session_lose_because(s, MOULT_ERROR_TIMEOUT, "the other side does not answer"))
                                return;
                } else {
                        m.body_case = MOULT__MESSAGE__BODY_PING;
                        m.ping = &ping;
                        s->ping_sent_us = now;
                        session_send(s, &m);
                }
        }
        if (s->up && !s->handshake.established && now >= s->next_hello_us) {
                s->held = FALSE;
                session_send_hello(s);
        }
        session_arm(s);
}

/* Life */

static ProtobufCBinaryData keep_string(Session *s, const char *string)
{
        char *copy;

        if (!string)
                return message_blob(NULL, 0);
        copy = g_strdup(string);
        g_ptr_array_add(s->hello_strings, copy);
        return message_bytes(copy);
}

/* With room for one more. */
static ProtobufCBinaryData *keep_list(Session *s, const char *const *list, size_t *ret_count)
{
        size_t n = list ? g_strv_length((char **)list) : 0;
        ProtobufCBinaryData *ret = g_new0(ProtobufCBinaryData, n + 1);

        for (size_t i = 0; i < n; i++)
                ret[i] = keep_string(s, list[i]);
        *ret_count = n;
        return ret;
}

Session *session_new(Transport *transport, const struct session_hello *hello,
                     const struct session_events *events, gpointer user)
{
        Session *s = g_new0(Session, 1);

        s->refs = 1;
        s->transport = transport;
        s->events = events;
        s->user = user;
        s->env = &session_real_environment;
        s->parser = frame_parser_new();
        s->requests = requests_new();
        handshake_init(&s->handshake, hello->role);

        moult__hello__init(&s->hello);
        s->hello_strings = g_ptr_array_new_with_free_func(g_free);
        s->hello.software = keep_string(s, hello->software);
        s->hello.boot_id = keep_string(s, hello->boot_id);
        s->hello.hostname = keep_string(s, hello->hostname);
        s->hello.join_token = keep_string(s, hello->join_token);
        if (hello->tls_fingerprint) {
                void *copy = g_memdup2(hello->tls_fingerprint, DIGEST_SIZE);

                g_ptr_array_add(s->hello_strings, copy);
                s->hello.tls_fingerprint = message_blob(copy, DIGEST_SIZE);
        }
        s->capabilities = keep_list(s, hello->capabilities, &s->hello.n_capabilities);
        s->capabilities[s->hello.n_capabilities++] = keep_string(s, CAPABILITY_ZSTD);
        s->hello.capabilities = s->capabilities;
        s->endpoints = keep_list(s, hello->endpoints, &s->hello.n_endpoints);
        s->hello.endpoints = s->endpoints;

        transport_set_events(transport, &transport_events, s);
        return s;
}

void session_set_environment(Session *s, const struct session_environment *ops, gpointer env)
{
        s->env = ops;
        s->env_user = env;
}

void session_start(Session *s)
{
        transport_start(s->transport);
}

Session *session_ref(Session *s)
{
        s->refs++;
        return s;
}

void session_close(Session *s)
{
        if (!s->transport)
                return;
        s->env->arm(s->env_user, s, G_MAXINT64);
        g_clear_pointer(&s->transport, transport_free);
        s->handshake.established = FALSE;
        s->up = FALSE;
        hub_item_remove(&s->timer);
}

void session_keep_capabilities(Session *s, const Moult__Hello *hello)
{
        g_strfreev(s->peer_capabilities);
        s->peer_capabilities = g_new0(char *, hello->n_capabilities + 1);
        for (size_t i = 0; i < hello->n_capabilities; i++)
                s->peer_capabilities[i] = message_string(hello->capabilities[i]);
}

static void session_free(Session *s)
{
        g_strfreev(s->peer_capabilities);
        requests_free(s->requests);
        frame_parser_free(s->parser);
        g_clear_error(&s->fault);
        g_ptr_array_unref(s->hello_strings);
        g_free(s->capabilities);
        g_free(s->endpoints);
        g_free(s);
}

void session_unref(Session *s)
{
        if (!s || --s->refs > 0)
                return;
        session_close(s);
        if (s->entered == 0)
                session_free(s);
}

SessionInUse *session_enter(Session *s)
{
        s->entered++;
        return s;
}

void session_leave(SessionInUse *s)
{
        if (--s->entered == 0 && s->refs == 0)
                session_free(s);
}

gboolean session_is_established(const Session *s)
{
        return s->handshake.established && !s->fault;
}

const char *session_name(const Session *s)
{
        return s->transport ? transport_name(s->transport) : "";
}

const char *session_peer(const Session *s)
{
        return s->transport ? s->transport->ops->peer(s->transport) : "closed connection";
}

gboolean session_peer_can(const Session *s, const char *capability)
{
        return s->peer_capabilities && g_strv_contains((const char *const *)s->peer_capabilities, capability);
}

const guint8 *session_peer_fingerprint(const Session *s)
{
        return s->transport ? s->transport->ops->peer_fingerprint(s->transport) : NULL;
}

gsize session_queued(const Session *s)
{
        return s->transport ? transport_queued(s->transport) : 0;
}
