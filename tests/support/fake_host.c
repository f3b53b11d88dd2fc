/* tests/support/fake_host.c - the other side of the agent's port. */
#include "tests/support/fake_host.h"

#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/limits.h"
#include "proto/transport_fd.h"

static void drop_session(FakeHost *h)
{
        if (!h->session)
                return;
        session_close(h->session);
        g_clear_pointer(&h->session, session_unref);
}

static Message *copy_message(const Message *m)
{
        g_autoptr(GBytes) bytes = message_pack(m);
        Message *copy = message_unpack(bytes, NULL);

        g_assert(copy);
        return copy;
}

static void keep_state(FakeHost *h, const Message *m)
{
        if (h->state)
                message_free(h->state);
        h->state = copy_message(m);
        h->phases |= 1u << m->state->phase;
}

static void answer_fetch(FakeHost *h, const Message *m)
{
        const Moult__Fetch *f = m->fetch;
        guint64 at = f->offset, end = f->offset + f->length;

        if (memcmp(f->manifest_digest.data, h->digest, 32) != 0 || end > h->pack_size) {
                g_autoptr(GError) error =
                        g_error_new_literal(MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "no such pack or range");
                session_reply_error(h->session, m, error);
                return;
        }
        while (at < end) {
                gsize n = MIN(end - at, LIMIT_DATA_BYTES);
                Message reply = MOULT__MESSAGE__INIT;
                Moult__Data data = MOULT__DATA__INIT;

                data.offset = at + (h->wrong_data ? 1 : 0);
                data.bytes = message_blob(h->pack + at, n);
                at += n;
                data.last = at == end;
                reply.body_case = MOULT__MESSAGE__BODY_DATA;
                reply.data = &data;
                session_reply(h->session, m, &reply);
        }
        h->fetched_bytes += f->length;
}

static void on_fetch(FakeHost *h, const Message *m)
{
        h->fetches++;
        if (h->hang_up_after == 0) {
                h->hang_up_after = -1;
                drop_session(h);
                return;
        }
        if (h->hang_up_after > 0)
                h->hang_up_after--;
        if (h->silent)
                return;
        if (h->refuse != MOULT_ERROR_UNSPECIFIED) {
                g_autoptr(GError) error =
                        g_error_new_literal(MOULT_ERROR, (int)h->refuse, "the fake host refuses");
                session_reply_error(h->session, m, error);
                return;
        }
        answer_fetch(h, m);
}

static void on_upgrade_request(FakeHost *h, const Message *m)
{
        if (h->request)
                message_free(h->request);
        h->request = copy_message(m);
        if (h->accept_requests) {
                session_reply_ack(h->session, m);
        } else {
                g_autoptr(GError) error =
                        g_error_new_literal(MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "no release has these files");
                session_reply_error(h->session, m, error);
        }
}

static void on_message(Session *s, const Message *m, gpointer user)
{
        FakeHost *h = user;

        if (m->body_case == MOULT__MESSAGE__BODY_STATE)
                keep_state(h, m);
        else if (m->body_case == MOULT__MESSAGE__BODY_FETCH)
                on_fetch(h, m);
        else if (m->body_case == MOULT__MESSAGE__BODY_UPGRADE_REQUEST)
                on_upgrade_request(h, m);
}

static void on_established(Session *s, const Moult__Hello *peer, gpointer user)
{
        ((FakeHost *)user)->established++;
}

static void on_lost(Session *s, const GError *why, gpointer user)
{
        ((FakeHost *)user)->lost++;
}

static void on_closed(Session *s, const GError *why, gpointer user)
{
        FakeHost *h = user;

        h->lost++;
        if (h->session == s)
                g_clear_pointer(&h->session, session_unref);
}

static const struct session_events events = {
        .established = on_established, .lost = on_lost, .closed = on_closed, .message = on_message};

static gboolean on_connection(gint fd, GIOCondition condition, gpointer user)
{
        FakeHost *h = user;
        int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        struct session_hello hello = {.role = h->role, .software = "fake host"};

        if (accepted < 0)
                return G_SOURCE_CONTINUE;
        hello.tls_fingerprint = h->has_fingerprint ? h->tls_fingerprint : NULL;
        hello.endpoints = h->endpoints;
        drop_session(h);
        h->session = session_new(transport_fd_new(accepted, "unix", "agent", FALSE), &hello, &events, h);
        session_start(h->session);
        return G_SOURCE_CONTINUE;
}

void fake_host_return(FakeHost *h)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        g_strlcpy(address.sun_path, h->path, sizeof address.sun_path);
        h->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        g_assert(bind(h->listener, (struct sockaddr *)&address, sizeof address) == 0);
        g_assert(listen(h->listener, 4) == 0);
        h->source = g_unix_fd_add(h->listener, G_IO_IN, on_connection, h);
}

void fake_host_vanish(FakeHost *h)
{
        g_clear_handle_id(&h->source, g_source_remove);
        if (h->listener >= 0)
                close(h->listener);
        h->listener = -1;
        unlink(h->path);
        drop_session(h);
}

FakeHost *fake_host_new(const char *socket_path)
{
        FakeHost *h = g_new0(FakeHost, 1);

        h->path = g_strdup(socket_path);
        h->hang_up_after = -1;
        h->role = MOULT__ROLE__ROLE_HOST;
        fake_host_return(h);
        return h;
}

void fake_host_free(FakeHost *h)
{
        if (!h)
                return;
        fake_host_vanish(h);
        g_free(h->path);
        g_free(h->pack);
        if (h->state)
                message_free(h->state);
        if (h->reply)
                message_free(h->reply);
        if (h->request)
                message_free(h->request);
        g_clear_error(&h->error);
        g_free(h);
}

void fake_host_serve_file(FakeHost *h, const char *pack_path, const guint8 digest[static 32])
{
        char *data = NULL;

        g_clear_pointer(&h->pack, g_free);
        g_assert(g_file_get_contents(pack_path, &data, &h->pack_size, NULL));
        h->pack = (guint8 *)data;
        memcpy(h->digest, digest, 32);
}

void fake_host_wait(gboolean (*condition)(gpointer user), gpointer user)
{
        while (!condition(user))
                g_main_context_iteration(NULL, TRUE);
}

static void on_reply(Session *s, const Message *reply, const GError *error, gpointer user)
{
        FakeHost *h = user;

        if (error)
                h->error = g_error_copy(error);
        else
                h->reply = copy_message(reply);
        if (reply && reply->body_case == MOULT__MESSAGE__BODY_STATE)
                keep_state(h, reply);
}

gboolean fake_host_ask(FakeHost *h, Message *m)
{
        if (h->reply)
                message_free(h->reply);
        h->reply = NULL;
        g_clear_error(&h->error);
        g_assert(h->session);
        session_request(h->session, m, 0, on_reply, h);
        while (!h->reply && !h->error)
                g_main_context_iteration(NULL, TRUE);
        return h->reply != NULL;
}

gboolean fake_host_offer(FakeHost *h, const guint8 push_id[static 16], Moult__Offer *offer)
{
        Message m = MOULT__MESSAGE__INIT;
        static Moult__SourceKind serial[] = {MOULT__SOURCE_KIND__SOURCE_SERIAL};

        offer->push_id = message_blob(push_id, 16);
        offer->manifest_digest = message_blob(h->digest, 32);
        offer->pack_size = h->pack_size;
        if (offer->n_sources == 0) {
                offer->sources = serial;
                offer->n_sources = 1;
        }
        m.body_case = MOULT__MESSAGE__BODY_OFFER;
        m.offer = offer;
        return fake_host_ask(h, &m);
}

gboolean fake_host_command(FakeHost *h, const guint8 push_id[static 16], Moult__PushAction action)
{
        Message m = MOULT__MESSAGE__INIT;
        Moult__PushCommand command = MOULT__PUSH_COMMAND__INIT;

        command.push_id = message_blob(push_id, 16);
        command.action = action;
        m.body_case = MOULT__MESSAGE__BODY_COMMAND;
        m.command = &command;
        return fake_host_ask(h, &m);
}

static gboolean is_final(Moult__TransactionPhase phase)
{
        return phase == MOULT__TRANSACTION_PHASE__PHASE_COMMITTED ||
               phase == MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK ||
               phase == MOULT__TRANSACTION_PHASE__PHASE_REFUSED ||
               phase == MOULT__TRANSACTION_PHASE__PHASE_FAILED;
}

gboolean fake_host_wait_phase(FakeHost *h, const guint8 push_id[static 16], Moult__TransactionPhase phase)
{
        for (;;) {
                const Moult__TransactionState *s = h->state ? h->state->state : NULL;

                if (s && s->push_id.len == 16 && memcmp(s->push_id.data, push_id, 16) == 0) {
                        if (s->phase == phase)
                                return TRUE;
                        if (is_final(s->phase))
                                return FALSE;
                }
                g_main_context_iteration(NULL, TRUE);
        }
}

void fake_host_wait_established(FakeHost *h)
{
        while (!h->session || !session_is_established(h->session))
                g_main_context_iteration(NULL, TRUE);
}
