/* proto/transport_tls.c - TLS 1.3 over a connected socket, both sides with a certificate.
 *
 * libssl works on two memory BIOs, so that reading and writing the socket is ours: no SIGPIPE, bounded
 * pieces, and one watch as in transport_fd.c. Bytes go
 *
 *      socket -> recv, at most READ_BYTES a dispatch -> from_net -> SSL_read -> events->bytes
 *      send queue -> SSL_write, while to_net holds less than WRITE_AHEAD -> to_net -> socket
 *
 * so libssl never holds more than one dispatch's bytes each way. What is refused, before the first byte of
 * ours flows: versions other than 1.3, other protocols (ALPN), keys other than Ed25519, chains, and keys that
 * accept() does not know. There is no CA, no name, no date to check. No tickets and no early data: each
 * connection proves its key. */
#include "proto/transport_tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/error.h"
#include "proto/fd_watch.h"
#include "proto/send_queue.h"
#include "proto/tls_ciphers.h"

#define READ_BYTES   (64u * 1024u)
#define WRITE_BYTES  (256u * 1024u) /* a dispatch */
#define WRITE_AHEAD  (64u * 1024u)
#define RECORD_BYTES (16u * 1024u)
/* to_net beyond this is not data of ours: the peer makes libssl answer (key updates) and does not read. */
#define TO_NET_MAX (1024u * 1024u)

#define HANDSHAKE_US (10 * G_USEC_PER_SEC)
/* A peer that is gone without a word: the kernel notices, no timer of ours. */
#define KEEPALIVE_IDLE_S     30
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_PROBES     3
#define USER_TIMEOUT_MS      60000

static const unsigned char alpn[] = {7, 'm', 'o', 'u', 'l', 't', '/', '1'};

enum tls_state { CONNECTING, HANDSHAKING, UP, DEAD };

typedef struct {
        Transport base;
        FdWatch watch;
        enum tls_state state;
        gboolean is_server;
        char *peer;
        tls_accept_func accept;
        gpointer accept_user;
        guint8 peer_fingerprint[DIGEST_SIZE];
        gboolean refused; /* by accept() */
        GError *setup_error;
        SSL_CTX *ctx;
        SSL *ssl;
        BIO *from_net, *to_net; /* owned by ssl */
        SendQueue queue;
} TlsTransport;

static void destroy(gpointer owner)
{
        TlsTransport *t = owner;

        SSL_free(t->ssl);
        SSL_CTX_free(t->ctx);
        send_queue_clear(&t->queue);
        g_clear_error(&t->setup_error);
        g_free(t->peer);
        g_free(t);
}

static void shut(TlsTransport *t)
{
        fd_watch_shut(&t->watch);
        t->state = DEAD;
}

static gsize encrypted_waiting(const TlsTransport *t)
{
        return t->to_net ? BIO_ctrl_pending(t->to_net) : 0;
}

static void watch(TlsTransport *t)
{
        GIOCondition want = G_IO_IN | G_IO_HUP | G_IO_ERR;

        if (t->state == CONNECTING)
                want = G_IO_OUT | G_IO_HUP | G_IO_ERR;
        else if (encrypted_waiting(t) > 0 || (t->state == UP && t->queue.queued > 0))
                want |= G_IO_OUT;
        fd_watch_want(&t->watch, want);
}

/* Sends what libssl has made. FALSE with errno when the connection is broken. */
static gboolean flush(TlsTransport *t)
{
        char scratch[RECORD_BYTES];
        char *data;
        long len;

        while ((len = BIO_get_mem_data(t->to_net, &data)) > 0) {
                ssize_t n = send(t->watch.fd, data, MIN((size_t)len, sizeof scratch), MSG_NOSIGNAL);

                if (n > 0)
                        BIO_read(t->to_net, scratch, (int)n); /* takes what was sent out of the BIO */
                else if (n < 0 && errno == EINTR)
                        continue;
                else
                        return n == 0 || errno == EAGAIN;
        }
        return TRUE;
}

static void go_closed(TlsTransport *t, GError *error)
{
        if (t->ssl && t->state != DEAD)
                flush(t); /* the alert that says why; if it does not go, the peer sees a cut */
        shut(t);
        t->base.events->status(t->base.user, TRANSPORT_CLOSED, error);
        g_error_free(error);
}

static void go_closed_text(TlsTransport *t, MoultError code, const char *text)
{
        go_closed(t, g_error_new(MOULT_ERROR, code, "%s: %s", t->peer, text));
}

static void go_closed_errno(TlsTransport *t, int errnum, const char *what)
{
        GError *error = NULL;

        moult_error_errno(&error, errnum, "%s: %s failed", t->peer, what);
        go_closed(t, error);
}

/* libssl has refused something, ours or theirs. */
static void go_closed_ssl(TlsTransport *t)
{
        int reason = ERR_GET_REASON(ERR_peek_last_error());
        GError *error = NULL;

        if (t->refused) {
                char hex[2 * DIGEST_SIZE + 1];

                digest_to_hex(t->peer_fingerprint, hex);
                g_set_error(&error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                            "%s: the other side has the key %s, which is not pinned here for it: it is "
                            "somebody else, "
                            "or was installed anew (then pin it again)",
                            t->peer, hex);
                ERR_clear_error();
        } else if (reason == SSL_R_SSLV3_ALERT_BAD_CERTIFICATE ||
                   reason == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED) {
                g_set_error(&error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                            "%s: the other side does not accept our key: it must pin it first", t->peer);
                ERR_clear_error();
        } else {
                g_autofree char *what = g_strdup_printf("%s: TLS", t->peer);

                tls_error_take(&error, what);
                error->code = MOULT_ERROR_MALFORMED;
        }
        go_closed(t, error);
}

static int verify_peer(X509_STORE_CTX *store, void *user)
{
        TlsTransport *t = user;
        X509 *cert = X509_STORE_CTX_get0_cert(store);
        STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(store);

        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
        if (!cert || (chain && sk_X509_num(chain) > 1) || !tls_fingerprint(cert, t->peer_fingerprint))
                return 0;
        t->refused = !t->accept(t->peer_fingerprint, t->accept_user);
        if (t->refused)
                return 0;
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return 1;
}

static int select_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_len,
                       const unsigned char *offered, unsigned offered_len, void *user)
{
        unsigned char *chosen;

        if (SSL_select_next_proto(&chosen, ret_len, alpn, sizeof alpn, offered, offered_len) !=
            OPENSSL_NPN_NEGOTIATED)
                return SSL_TLSEXT_ERR_ALERT_FATAL;
        *ret = chosen;
        return SSL_TLSEXT_ERR_OK;
}

static gboolean has_our_alpn(TlsTransport *t)
{
        const unsigned char *got;
        unsigned len;

        SSL_get0_alpn_selected(t->ssl, &got, &len);
        return len == sizeof alpn - 1 && memcmp(got, alpn + 1, len) == 0;
}

static gboolean set_up(TlsTransport *t, const TlsIdentity *id, GError **error)
{
        t->ctx = SSL_CTX_new(TLS_method());
        if (!t->ctx || SSL_CTX_set_min_proto_version(t->ctx, TLS1_3_VERSION) != 1 ||
            SSL_CTX_set_max_proto_version(t->ctx, TLS1_3_VERSION) != 1 ||
            SSL_CTX_set1_sigalgs_list(t->ctx, "ed25519") != 1 ||
            SSL_CTX_set_ciphersuites(t->ctx, tls_ciphersuites(tls_cpu_has_aes_gcm())) != 1 ||
            SSL_CTX_set1_groups_list(t->ctx, "X25519:P-256") != 1 ||
            SSL_CTX_set_num_tickets(t->ctx, 0) != 1 || SSL_CTX_set_max_early_data(t->ctx, 0) != 1 ||
            SSL_CTX_set_alpn_protos(t->ctx, alpn, sizeof alpn) != 0) /* 0 is success in this one */
                return tls_error_take(error, "setting up TLS");
        if (!tls_identity_use(id, t->ctx, error))
                return FALSE;
        SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(t->ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
        SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                         SSL_MODE_RELEASE_BUFFERS);
        SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        SSL_CTX_set_cert_verify_callback(t->ctx, verify_peer, t);
        SSL_CTX_set_max_cert_list(t->ctx, 16 * 1024);
        SSL_CTX_set_alpn_select_cb(t->ctx, select_alpn, t);

        t->ssl = SSL_new(t->ctx);
        t->from_net = BIO_new(BIO_s_mem());
        t->to_net = BIO_new(BIO_s_mem());
        if (!t->ssl || !t->from_net || !t->to_net) {
                BIO_free(t->from_net);
                BIO_free(t->to_net);
                t->to_net = NULL;
                return tls_error_take(error, "setting up TLS");
        }
        BIO_set_mem_eof_return(t->from_net, -1); /* empty means "later" */
        SSL_set_bio(t->ssl, t->from_net, t->to_net);
        if (t->is_server)
                SSL_set_accept_state(t->ssl);
        else
                SSL_set_connect_state(t->ssl);
        return TRUE;
}

/* A step of the handshake. TRUE to go on with the dispatch. */
static gboolean shake(TlsTransport *t)
{
        int r;

        ERR_clear_error();
        r = SSL_do_handshake(t->ssl);
        if (r != 1) {
                if (SSL_get_error(t->ssl, r) == SSL_ERROR_WANT_READ)
                        return TRUE;
                go_closed_ssl(t);
                return FALSE;
        }
        if (!has_our_alpn(t)) {
                go_closed_text(t, MOULT_ERROR_UNSUPPORTED, "the other side does not speak moult/1 over TLS");
                return FALSE;
        }
        t->state = UP;
        fd_watch_set_time(&t->watch, -1);
        t->base.events->status(t->base.user, TRANSPORT_UP, NULL);
        return t->state == UP;
}

/* Gives the owner what libssl has decrypted. TRUE to go on. */
static gboolean deliver(TlsTransport *t)
{
        guint8 buf[RECORD_BYTES];

        for (;;) {
                int n, why;

                ERR_clear_error();
                n = SSL_read(t->ssl, buf, sizeof buf);
                if (n > 0) {
                        t->base.events->bytes(t->base.user, buf, (size_t)n);
                        if (t->state != UP)
                                return FALSE;
                        continue;
                }
                why = SSL_get_error(t->ssl, n);
                if (why == SSL_ERROR_WANT_READ)
                        return TRUE;
                if (why == SSL_ERROR_ZERO_RETURN)
                        go_closed_text(t, MOULT_ERROR_IO, "the other side has ended the connection");
                else
                        go_closed_ssl(t);
                return FALSE;
        }
}

static gboolean process(TlsTransport *t)
{
        if (t->state == HANDSHAKING && !shake(t))
                return FALSE;
        if (t->state == UP && !deliver(t))
                return FALSE;
        if (encrypted_waiting(t) > TO_NET_MAX) {
                go_closed_text(t, MOULT_ERROR_MALFORMED,
                               "the other side asks for answers and does not read them");
                return FALSE;
        }
        return TRUE;
}

/* TRUE to go on with the dispatch. */
static gboolean read_some(TlsTransport *t)
{
        guint8 buf[READ_BYTES];
        ssize_t n;

        do
                n = recv(t->watch.fd, buf, sizeof buf, 0);
        while (n < 0 && errno == EINTR);
        if (n > 0) {
                BIO_write(t->from_net, buf, (int)n);
                return process(t);
        }
        if (n == 0)
                go_closed_text(t, MOULT_ERROR_IO,
                               t->state == UP
                                       ? "the connection was cut"
                                       : "the other side closed the connection during the TLS handshake");
        else if (errno == EAGAIN)
                return TRUE;
        else
                go_closed_errno(t, errno, "receiving");
        return FALSE;
}

/* Encrypts and sends what is queued. TRUE to go on. */
static gboolean write_some(TlsTransport *t)
{
        gsize written = 0, len = 0;
        const void *data;

        for (;;) {
                if (!flush(t)) {
                        go_closed_errno(t, errno, "sending");
                        return FALSE;
                }
                if (t->state != UP || encrypted_waiting(t) > 0 || written >= WRITE_BYTES)
                        break;
                while (encrypted_waiting(t) < WRITE_AHEAD && (data = send_queue_peek(&t->queue, &len))) {
                        int n;

                        ERR_clear_error();
                        n = SSL_write(t->ssl, data, (int)MIN(len, RECORD_BYTES));
                        if (n <= 0) { /* memory BIOs are never full */
                                go_closed_ssl(t);
                                return FALSE;
                        }
                        send_queue_consume(&t->queue, (gsize)n);
                        written += (gsize)n;
                }
                if (encrypted_waiting(t) == 0)
                        break;
        }
        if (t->state == UP && send_queue_has_room(&t->queue) && t->base.events->writable)
                t->base.events->writable(t->base.user);
        return t->state != DEAD;
}

static void connected(TlsTransport *t)
{
        int errnum = 0;
        socklen_t len = sizeof errnum;

        if (getsockopt(t->watch.fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0)
                errnum = errno;
        if (errnum != 0) {
                go_closed_errno(t, errnum, "connecting");
                return;
        }
        t->state = HANDSHAKING;
        if (process(t) && write_some(t))
                watch(t);
}

static void dispatch(gpointer owner)
{
        TlsTransport *t = owner;
        GIOCondition got;

        if (t->setup_error) {
                go_closed(t, g_steal_pointer(&t->setup_error));
                return;
        }
        if (fd_watch_is_due(&t->watch)) { /* UP has no time any more */
                go_closed_text(t, MOULT_ERROR_TIMEOUT,
                               t->state == CONNECTING ? "no connection within 10 s"
                                                      : "the TLS handshake was not finished within 10 s");
                return;
        }
        got = fd_watch_got(&t->watch);
        if (t->state == CONNECTING) {
                if (got != 0)
                        connected(t);
                return;
        }
        if ((got & (G_IO_IN | G_IO_HUP | G_IO_ERR)) && !read_some(t))
                return;
        if (!write_some(t))
                return;
        watch(t);
}

static void tls_start(Transport *base)
{
        TlsTransport *t = (TlsTransport *)base;

        fd_watch_start(&t->watch, t->setup_error ? 0 : g_get_monotonic_time() + HANDSHAKE_US);
        if (!t->setup_error)
                watch(t);
}

static void tls_send(Transport *base, GBytes *frame)
{
        TlsTransport *t = (TlsTransport *)base;

        if (t->state != UP)
                return;
        send_queue_push(&t->queue, frame);
        watch(t);
}

static gsize tls_queued(Transport *base)
{
        /* Not what libssl has made of it (little more than WRITE_AHEAD): who stops at LIMIT_SEND_LOW by this
         * number must be the one whom `writable` wakes, and that goes by the queue. */
        return ((TlsTransport *)base)->queue.queued;
}

static const char *tls_peer(Transport *base)
{
        return ((TlsTransport *)base)->peer;
}

static const guint8 *tls_peer_fingerprint(Transport *base)
{
        TlsTransport *t = (TlsTransport *)base;

        return t->state == UP ? t->peer_fingerprint : NULL;
}

static void tls_free(Transport *base)
{
        TlsTransport *t = (TlsTransport *)base;

        if (t->state == UP) {
                ERR_clear_error();
                SSL_shutdown(t->ssl); /* close_notify; we do not wait for theirs */
                flush(t);
                ERR_clear_error();
        }
        shut(t);
        fd_watch_unref(&t->watch);
}

static const struct transport_ops tls_ops = {
        .name = "tls",
        .start = tls_start,
        .send = tls_send,
        .queued = tls_queued,
        .peer = tls_peer,
        .peer_fingerprint = tls_peer_fingerprint,
        .free = tls_free,
};

/* Options that a socket other than TCP does not know are of no harm. */
static void tune_socket(int fd)
{
        static const struct {
                int level, name, value;
        } options[] = {
                {IPPROTO_TCP, TCP_NODELAY, 1},
                {SOL_SOCKET, SO_KEEPALIVE, 1},
                {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
                {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
                {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
                {IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS},
        };

        for (size_t i = 0; i < G_N_ELEMENTS(options); i++)
                setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof options[i].value);
}

Transport *transport_tls_new(int fd, gboolean is_server, const TlsIdentity *id, const char *peer,
                             tls_accept_func accept, gpointer user)
{
        TlsTransport *t = g_new0(TlsTransport, 1);

        t->base.ops = &tls_ops;
        fd_watch_init(&t->watch, fd, dispatch, destroy, t);
        t->is_server = is_server;
        t->peer = g_strdup(peer);
        t->accept = accept;
        t->accept_user = user;
        send_queue_init(&t->queue);
        tune_socket(fd);
        set_up(t, id, &t->setup_error);
        return &t->base;
}
