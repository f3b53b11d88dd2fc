/* tests/unit/test_guest_agent_link_tls.c - the agent finds its host over the network: by what the port said,
 * or by a token; and talks to nobody else. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <arpa/inet.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/digest.h"
#include "proto/tls_identity.h"
#include "proto/transport_tls.h"
#include "tests/support/agent_rig.h"

TestSuite(agent_tls, .timeout = 60);

/* A TLS listener of a host. */
struct listener {
        TlsIdentity *id;
        int fd;
        guint source;
        char *endpoint;
        Session *session;
        int established, refused;
        char *token;
        gboolean accept;
        TempDir *dir;
};

static gboolean accept_guest(const guint8 fingerprint[static DIGEST_SIZE], gpointer user)
{
        return ((struct listener *)user)->accept;
}

static void on_established(Session *s, const Moult__Hello *peer, gpointer user)
{
        struct listener *l = user;

        l->established++;
        g_free(l->token);
        l->token = message_string(peer->join_token);
}

static void on_lost(Session *s, const GError *why, gpointer user)
{
}

static void on_closed(Session *s, const GError *why, gpointer user)
{
        struct listener *l = user;

        l->refused++;
        if (l->session == s)
                g_clear_pointer(&l->session, session_unref);
}

static void on_message(Session *s, const Message *m, gpointer user)
{
}

static const struct session_events events = {
        .established = on_established, .lost = on_lost, .closed = on_closed, .message = on_message};

static gboolean on_connection(gint fd, GIOCondition condition, gpointer user)
{
        struct listener *l = user;
        struct session_hello hello = {.role = MOULT__ROLE__ROLE_HOST, .software = "fake host"};
        int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

        if (accepted < 0)
                return G_SOURCE_CONTINUE;
        g_clear_pointer(&l->session, session_unref);
        l->session = session_new(transport_tls_new(accepted, TRUE, l->id, "guest", accept_guest, l), &hello,
                                 &events, l);
        session_start(l->session);
        return G_SOURCE_CONTINUE;
}

static struct listener *listener_new(void)
{
        struct listener *l = g_new0(struct listener, 1);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof address;

        l->dir = tempdir_new();
        l->accept = TRUE;
        l->id = tls_identity_load(l->dir->path, "host", NULL);
        cr_assert(ne(ptr, l->id, NULL));
        l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        cr_assert(zero(int, bind(l->fd, (struct sockaddr *)&address, sizeof address)));
        cr_assert(zero(int, listen(l->fd, 4)));
        cr_assert(zero(int, getsockname(l->fd, (struct sockaddr *)&address, &len)));
        l->endpoint = g_strdup_printf("127.0.0.1:%u", ntohs(address.sin_port));
        l->source = g_unix_fd_add(l->fd, G_IO_IN, on_connection, l);
        return l;
}

static void listener_free(struct listener *l)
{
        g_source_remove(l->source);
        if (l->session)
                session_close(l->session);
        g_clear_pointer(&l->session, session_unref);
        close(l->fd);
        tls_identity_free(l->id);
        tempdir_free(l->dir);
        g_free(l->endpoint);
        g_free(l->token);
        g_free(l);
}

static void wait_for(const int *counter, int value)
{
        while (*counter < value)
                g_main_context_iteration(NULL, TRUE);
}

static void use_token(AgentRig *r, struct listener *l, const guint8 *fingerprint)
{
        char hex[2 * DIGEST_SIZE + 1];

        digest_to_hex(fingerprint, hex);
        g_autofree char *host = g_strdup_printf("--host=%s", l->endpoint);
        g_autofree char *token = g_strdup_printf("--token=moult1:%s:the-secret", hex);
        agent_rig_option(r, host);
        agent_rig_option(r, token);
}

Test(agent_tls, dials_the_host_that_the_port_spoke_of_and_remembers_it)
{
        g_autoptr(AgentRig) r = agent_rig_new();
        struct listener *l = listener_new();
        const char *endpoints[] = {l->endpoint, NULL};

        memcpy(r->host->tls_fingerprint, tls_identity_fingerprint(l->id), DIGEST_SIZE);
        r->host->has_fingerprint = TRUE;
        r->host->endpoints = endpoints;
        agent_rig_start(r);
        wait_for(&l->established, 1);
        cr_expect(eq(str, l->token, (char *)""));
        agent_rig_stop(r);

        fake_host_vanish(r->host); /* now the network alone */
        agent_rig_start(r);
        wait_for(&l->established, 2);
        agent_rig_stop(r);
        listener_free(l);
}

Test(agent_tls, a_token_introduces_the_guest_once)
{
        g_autoptr(AgentRig) r = agent_rig_new();
        struct listener *l = listener_new();

        use_token(r, l, tls_identity_fingerprint(l->id));
        fake_host_vanish(r->host);
        agent_rig_start(r);
        wait_for(&l->established, 1);
        cr_expect(eq(str, l->token, (char *)"the-secret"));
        agent_rig_stop(r);
        agent_rig_start(r);
        wait_for(&l->established, 2);
        cr_expect(eq(str, l->token, (char *)""), "a secret is not told twice");
        agent_rig_stop(r);
        listener_free(l);
}

Test(agent_tls, says_nothing_to_a_host_with_another_key)
{
        g_autoptr(AgentRig) r = agent_rig_new();
        struct listener *l = listener_new();
        guint8 other[DIGEST_SIZE];

        memset(other, 0x42, sizeof other);
        use_token(r, l, other);
        fake_host_vanish(r->host);
        agent_rig_start(r);
        wait_for(&l->refused, 2); /* it tries again */
        cr_expect(zero(int, l->established));
        cr_expect(eq(ptr, l->token, NULL));
        agent_rig_stop(r);
        listener_free(l);
}

Test(agent_tls, comes_back_after_the_host_hung_up)
{
        g_autoptr(AgentRig) r = agent_rig_new();
        struct listener *l = listener_new();

        use_token(r, l, tls_identity_fingerprint(l->id));
        fake_host_vanish(r->host);
        agent_rig_start(r);
        for (int i = 1; i <= 3; i++) {
                wait_for(&l->established, i);
                session_close(l->session);
                g_clear_pointer(&l->session, session_unref);
        }
        wait_for(&l->established, 4);
        agent_rig_stop(r);
        listener_free(l);
}
