/* tests/unit/test_proto_tls.c - the TLS transport believes only pinned keys, and is a byte stream with
 * pressure. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "proto/limits.h"
#include "proto/transport_tls.h"
#include "tests/support/tempdir.h"

TestSuite(tls, .timeout = 60);

struct end {
        Transport *transport;
        TlsIdentity *id;
        gboolean up, closed, free_when_up, free_at_bytes;
        int writable;
        guint64 received;
        GChecksum *sum;
        char *text;
        int code;
        const guint8 *expected; /* the one fingerprint that is accepted; NULL: any */
        /* What it still has to send, refilled at `writable`. */
        guint64 to_send;
        guint8 fill;
        gsize most_queued;
};

static gboolean accept_expected(const guint8 fingerprint[static DIGEST_SIZE], gpointer user)
{
        struct end *e = user;

        return !e->expected || memcmp(e->expected, fingerprint, DIGEST_SIZE) == 0;
}

static void refill(struct end *e)
{
        while (e->to_send > 0 && transport_queued(e->transport) < LIMIT_SEND_LOW) {
                gsize n = MIN(e->to_send, 100000);
                g_autofree guint8 *block = g_malloc(n);

                memset(block, e->fill++, n);
                g_autoptr(GBytes) b = g_bytes_new(block, n);
                transport_send(e->transport, b);
                e->to_send -= n;
                e->most_queued = MAX(e->most_queued, transport_queued(e->transport));
        }
}

static void on_bytes(gpointer user, const void *data, size_t len)
{
        struct end *e = user;

        e->received += len;
        g_checksum_update(e->sum, data, (gssize)len);
        if (e->free_at_bytes)
                g_clear_pointer(&e->transport, transport_free);
}

static void on_writable(gpointer user)
{
        struct end *e = user;

        e->writable++;
        refill(e);
}

static void on_status(gpointer user, TransportStatus status, const GError *error)
{
        struct end *e = user;

        if (status == TRANSPORT_UP)
                e->up = TRUE;
        if (status == TRANSPORT_CLOSED) {
                e->closed = TRUE;
                e->text = g_strdup(error->message);
                e->code = error->code;
        }
        if (e->free_when_up && e->up)
                g_clear_pointer(&e->transport, transport_free);
}

static const struct transport_events events = {on_bytes, on_writable, on_status};

static void end_init(struct end *e, TempDir *dir, const char *name)
{
        g_autofree char *path = g_strdup_printf("%s/%s", dir->path, name);
        g_autoptr(GError) error = NULL;

        e->sum = g_checksum_new(G_CHECKSUM_SHA256);
        e->id = tls_identity_load(path, name, &error);
        cr_assert(ne(ptr, e->id, NULL), "%s", error ? error->message : "");
}

static void end_start(struct end *e, int fd, gboolean is_server)
{
        e->transport =
                transport_tls_new(fd, is_server, e->id, is_server ? "client" : "server", accept_expected, e);
        transport_set_events(e->transport, &events, e);
        transport_start(e->transport);
}

static void end_clear(struct end *e)
{
        transport_free(e->transport);
        tls_identity_free(e->id);
        g_checksum_free(e->sum);
        g_free(e->text);
}

static void socket_pair(int fds[2])
{
        cr_assert(zero(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)));
}

static void start_pair(struct end *server, struct end *client)
{
        int fds[2];

        socket_pair(fds);
        end_start(server, fds[0], TRUE);
        end_start(client, fds[1], FALSE);
}

#define RUN_UNTIL(condition)                                                                                 \
        while (!(condition))                                                                                 \
        g_main_context_iteration(NULL, TRUE)

Test(tls, both_sides_see_the_key_that_the_other_has)
{
        g_autoptr(TempDir) dir = tempdir_new();
        struct end a = {0}, b = {0};

        end_init(&a, dir, "a");
        end_init(&b, dir, "b");
        a.expected = tls_identity_fingerprint(b.id);
        b.expected = tls_identity_fingerprint(a.id);
        start_pair(&a, &b);
        RUN_UNTIL(a.up && b.up);
        cr_expect(
                zero(int, memcmp(a.transport->ops->peer_fingerprint(a.transport), a.expected, DIGEST_SIZE)));
        cr_expect(
                zero(int, memcmp(b.transport->ops->peer_fingerprint(b.transport), b.expected, DIGEST_SIZE)));
        cr_expect(not(a.closed));
        cr_expect(not(b.closed));
        end_clear(&a);
        end_clear(&b);
}

Test(tls, server_refuses_a_client_whose_key_is_not_pinned_and_both_say_why)
{
        g_autoptr(TempDir) dir = tempdir_new();
        struct end server = {0}, client = {0};

        end_init(&server, dir, "server");
        end_init(&client, dir, "client");
        server.expected = tls_identity_fingerprint(server.id); /* any but the client's */
        start_pair(&server, &client);
        RUN_UNTIL(server.closed && client.closed);
        cr_expect(not(server.up));
        cr_expect(eq(int, server.code, MOULT_ERROR_UNTRUSTED));
        cr_expect(ne(ptr, strstr(server.text, "is not pinned here"), NULL), "%s", server.text);
        cr_expect(eq(int, client.code, MOULT_ERROR_UNTRUSTED));
        cr_expect(ne(ptr, strstr(client.text, "does not accept our key"), NULL), "%s", client.text);
        cr_expect(zero(u64, server.received));
        end_clear(&server);
        end_clear(&client);
}

Test(tls, client_refuses_a_server_whose_key_is_not_pinned)
{
        g_autoptr(TempDir) dir = tempdir_new();
        struct end server = {0}, client = {0};

        end_init(&server, dir, "server");
        end_init(&client, dir, "client");
        client.expected = tls_identity_fingerprint(client.id);
        start_pair(&server, &client);
        RUN_UNTIL(server.closed && client.closed);
        cr_expect(not(client.up));
        cr_expect(not(server.up));
        cr_expect(eq(int, client.code, MOULT_ERROR_UNTRUSTED));
        cr_expect(ne(ptr, strstr(client.text, "is not pinned here"), NULL), "%s", client.text);
        end_clear(&server);
        end_clear(&client);
}

Test(tls, big_transfers_both_ways_at_once_arrive_whole_and_are_bounded)
{
        g_autoptr(TempDir) dir = tempdir_new();
        struct end a = {0}, b = {0};
        enum { BYTES = 24 * 1024 * 1024 };

        end_init(&a, dir, "a");
        end_init(&b, dir, "b");
        start_pair(&a, &b);
        RUN_UNTIL(a.up && b.up);
        a.to_send = b.to_send = BYTES;
        refill(&a);
        refill(&b);
        RUN_UNTIL(a.received == BYTES && b.received == BYTES);
        cr_expect(eq(str, (char *)g_checksum_get_string(a.sum), (char *)g_checksum_get_string(b.sum)));
        cr_expect(gt(int, a.writable, 5));
        cr_expect(le(sz, a.most_queued, LIMIT_SEND_LOW + 200000));
        end_clear(&a);
        end_clear(&b);
}

Test(tls, a_peer_that_does_not_read_is_waited_for_without_a_loss)
{
        g_autoptr(TempDir) dir = tempdir_new();
        g_autoptr(GMainContext) other = g_main_context_new();
        struct end a = {0}, b = {0};
        gsize size = LIMIT_SEND_LOW * 2;
        g_autoptr(GBytes) big = g_bytes_new_take(g_malloc0(size), size);
        int fds[2];

        end_init(&a, dir, "a");
        end_init(&b, dir, "b");
        socket_pair(fds);
        end_start(&a, fds[0], TRUE);
        g_main_context_push_thread_default(other); /* b has a loop of its own, that can stand still */
        end_start(&b, fds[1], FALSE);
        while (!a.up || !b.up) {
                g_main_context_iteration(NULL, FALSE);
                g_main_context_iteration(other, FALSE);
        }
        transport_send(a.transport, big);
        for (int i = 0; i < 100; i++) /* until the socket is full; then nothing is ready */
                g_main_context_iteration(NULL, FALSE);
        cr_expect(not(g_main_context_pending(NULL))); /* it does not spin */
        cr_expect(zero(int, a.writable));
        cr_expect(gt(sz, transport_queued(a.transport), LIMIT_SEND_LOW));
        cr_expect(zero(u64, b.received));
        while (b.received < size) {
                g_main_context_iteration(NULL, FALSE);
                g_main_context_iteration(other, FALSE);
        }
        cr_expect(eq(int, a.writable, 1));
        end_clear(&a);
        end_clear(&b);
        g_main_context_pop_thread_default(other);
}

Test(tls, a_closed_side_is_told_apart_from_a_cut_one)
{
        g_autoptr(TempDir) dir = tempdir_new();
        struct end a = {0}, b = {0};

        end_init(&a, dir, "a");
        end_init(&b, dir, "b");
        start_pair(&a, &b);
        RUN_UNTIL(a.up && b.up);
        g_clear_pointer(&b.transport, transport_free);
        RUN_UNTIL(a.closed);
        cr_expect(ne(ptr, strstr(a.text, "has ended the connection"), NULL), "%s", a.text);
        end_clear(&a);
        end_clear(&b);
}

Test(tls, owner_may_free_in_the_up_event)
{
        g_autoptr(TempDir) dir = tempdir_new();
        struct end a = {.free_when_up = TRUE}, b = {0};

        end_init(&a, dir, "a");
        end_init(&b, dir, "b");
        start_pair(&a, &b);
        RUN_UNTIL(a.up && b.closed);
        cr_expect(eq(ptr, a.transport, NULL));
        end_clear(&a);
        end_clear(&b);
}

Test(tls, owner_may_free_in_the_bytes_event)
{
        g_autoptr(TempDir) dir = tempdir_new();
        struct end a = {.free_at_bytes = TRUE}, b = {.to_send = 1000000};

        end_init(&a, dir, "a");
        end_init(&b, dir, "b");
        start_pair(&a, &b);
        RUN_UNTIL(a.up && b.up);
        refill(&b);
        RUN_UNTIL(b.closed);
        cr_expect(eq(ptr, a.transport, NULL));
        end_clear(&a);
        end_clear(&b);
}

/* Peers that are not ours: libssl or plain bytes in a thread, blocking. */

enum raw_kind { TLS12_ONLY, NO_CERTIFICATE, ECDSA_KEY, WRONG_ALPN, NO_ALPN, LONG_CHAIN };

struct raw {
        int fd;
        enum raw_kind kind;
        gboolean spoke; /* got application data through, or a finished handshake that was then not refused */
};

static X509 *certificate_for(EVP_PKEY *key, EVP_PKEY *signer)
{
        X509 *c = X509_new();

        X509_set_version(c, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(c), 1);
        X509_gmtime_adj(X509_getm_notBefore(c), 0);
        X509_gmtime_adj(X509_getm_notAfter(c), 3600);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_ASC, (const unsigned char *)"raw",
                                   -1, -1, 0);
        X509_set_issuer_name(c, X509_get_subject_name(c));
        X509_set_pubkey(c, key);
        X509_sign(c, signer, EVP_PKEY_get_id(signer) == EVP_PKEY_ED25519 ? NULL : EVP_sha256());
        return c;
}

static gpointer raw_client(gpointer data)
{
        struct raw *r = data;
        SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
        EVP_PKEY *key = r->kind == ECDSA_KEY ? EVP_EC_gen("P-256") : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        X509 *cert = certificate_for(key, key);
        SSL *ssl;
        char byte;

        if (r->kind == TLS12_ONLY)
                SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
        if (r->kind != NO_CERTIFICATE) {
                SSL_CTX_use_certificate(ctx, cert);
                SSL_CTX_use_PrivateKey(ctx, key);
        }
        if (r->kind == LONG_CHAIN)
                SSL_CTX_add1_chain_cert(ctx, cert);
        if (r->kind == WRONG_ALPN)
                SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x02h2", 3);
        else if (r->kind != NO_ALPN)
                SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x07moult/1", 8);
        ssl = SSL_new(ctx);
        SSL_set_fd(ssl, r->fd);
        /* A refusal comes either in the handshake or, as TLS 1.3 has it, at the first read. */
        r->spoke = SSL_connect(ssl) == 1 && SSL_read(ssl, &byte, 1) == 1;
        SSL_free(ssl);
        X509_free(cert);
        EVP_PKEY_free(key);
        SSL_CTX_free(ctx);
        close(r->fd);
        return NULL;
}

static void server_against(enum raw_kind kind, struct end *server, TempDir *dir)
{
        struct raw raw = {.kind = kind};
        GThread *thread;
        int fds[2];

        socket_pair(fds);
        raw.fd = fds[1];
        end_init(server, dir, "server");
        end_start(server, fds[0], TRUE);
        signal(SIGPIPE, SIG_IGN); /* the raw peer writes as libssl does */
        thread = g_thread_new("raw peer", raw_client, &raw);
        RUN_UNTIL(server->closed);
        g_thread_join(thread);
        cr_expect(not(raw.spoke));
}

static void refuses(enum raw_kind kind)
{
        g_autoptr(TempDir) dir = tempdir_new();
        struct end server = {0};

        server_against(kind, &server, dir);
        cr_expect(not(server.up));
        cr_expect(gt(sz, strlen(server.text), 0));
        end_clear(&server);
}

/* A test each, not ParameterizedTest: that one leaks in Criterion 2.4.1, which the leak checker takes for
 * ours. */
Test(tls, server_refuses_tls_1_2)
{
        refuses(TLS12_ONLY);
}

Test(tls, server_refuses_a_client_without_certificate)
{
        refuses(NO_CERTIFICATE);
}

Test(tls, server_refuses_an_ecdsa_key)
{
        refuses(ECDSA_KEY);
}

Test(tls, server_refuses_another_protocol)
{
        refuses(WRONG_ALPN);
}

Test(tls, server_refuses_a_client_that_names_no_protocol)
{
        refuses(NO_ALPN);
}

Test(tls, server_refuses_a_certificate_chain)
{
        refuses(LONG_CHAIN);
}

static void server_fed_with(const void *data, size_t len, gboolean then_close, struct end *server,
                            TempDir *dir)
{
        int fds[2];

        socket_pair(fds);
        end_init(server, dir, "server");
        end_start(server, fds[0], TRUE);
        cr_assert(eq(sz, (size_t)write(fds[1], data, len), len));
        if (then_close)
                close(fds[1]);
        RUN_UNTIL(server->closed);
        if (!then_close)
                close(fds[1]);
}

Test(tls, garbage_instead_of_a_handshake_closes)
{
        g_autoptr(TempDir) dir = tempdir_new();
        struct end server = {0};

        server_fed_with("GET / HTTP/1.1\r\nHost: moult\r\n\r\n", 31, FALSE, &server, dir);
        cr_expect(not(server.up));
        cr_expect(eq(int, server.code, MOULT_ERROR_MALFORMED));
        end_clear(&server);
}

Test(tls, a_peer_that_leaves_in_the_handshake_closes)
{
        g_autoptr(TempDir) dir = tempdir_new();
        struct end server = {0};

        server_fed_with("\x16\x03\x01\x01", 4, TRUE, &server, dir); /* a quarter of a record */
        cr_expect(not(server.up));
        cr_expect(ne(ptr, strstr(server.text, "during the TLS handshake"), NULL), "%s", server.text);
        end_clear(&server);
}

Test(tls, a_peer_that_says_nothing_is_closed_by_the_deadline)
{
        g_autoptr(TempDir) dir = tempdir_new();
        struct end server = {0};
        int fds[2];

        socket_pair(fds);
        end_init(&server, dir, "server");
        end_start(&server, fds[0], TRUE);
        RUN_UNTIL(server.closed); /* the suite's time limit is the bound */
        cr_expect(eq(int, server.code, MOULT_ERROR_TIMEOUT));
        close(fds[1]);
        end_clear(&server);
}
