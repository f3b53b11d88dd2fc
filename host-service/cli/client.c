/* host-service/cli/client.c - asking moultd: HTTP and JSON over its Unix socket, or over TLS. */
#include "host-service/cli/client.h"

#include <gio/gunixsocketaddress.h>
#include <libsoup/soup.h>
#include <openssl/x509.h>
#include <string.h>

#include "common/error.h"
#include "host-service/cli/exit_code.h"
#include "host-service/cli/output.h"
#include "host-service/cli/token_file.h"
#include "proto/tls_identity.h"

#define REQUEST_TIMEOUT_S 90 /* longer than moultd waits for a guest */
#define ANSWER_MAX        (256u * 1024u * 1024u)
#define POST_TRIES        4
#define KEY_MAX           128
#define POST_PAUSE_MS     500

struct Client {
        Cli *cli;
        SoupSession *session;
        char *base;       /* of every URI */
        TokenFile *token; /* NULL: over the Unix socket */
        GError *unusable; /* why nobody can be asked; or NULL */
};

static SoupSession *new_session(GSocketAddress *address)
{
        return soup_session_new_with_options("remote-connectable", address, "timeout", REQUEST_TIMEOUT_S,
                                             "user-agent", "moult/" MOULT_VERSION, NULL);
}

static void begin_remote(Client *c, const char *host)
{
        g_autoptr(GSocketConnectable) parsed = g_network_address_parse(host, CLI_DEFAULT_PORT, NULL);
        const char *name = parsed ? g_network_address_get_hostname(G_NETWORK_ADDRESS(parsed)) : NULL;

        c->session = new_session(NULL);
        /* Whom we trust is in the token file, and nowhere else. */
        soup_session_set_tls_database(c->session, NULL);
        if (!name || !*name) {
                g_set_error(&c->unusable, CLI_ERROR, CLI_ERROR_USAGE, "\"%s\" is not HOST or HOST:PORT",
                            host);
                return;
        }
        c->base = g_strdup_printf(strchr(name, ':') ? "https://[%s]:%u" : "https://%s:%u", name,
                                  g_network_address_get_port(G_NETWORK_ADDRESS(parsed)));
        c->token = token_file_read(c->cli, &c->unusable);
}

Client *client_new(Cli *cli)
{
        Client *c = g_new0(Client, 1);

        c->cli = cli;
        if (cli_host(cli)) {
                begin_remote(c, cli_host(cli));
        } else {
                g_autoptr(GSocketAddress) address = g_unix_socket_address_new(cli_socket(cli));

                c->session = new_session(address);
                c->base = g_strdup("http://moultd");
        }
        return c;
}

void client_free(Client *c)
{
        if (!c)
                return;
        soup_session_abort(c->session);
        g_object_unref(c->session);
        g_free(c->base);
        token_file_free(c->token);
        g_clear_error(&c->unusable);
        g_free(c);
}

char *client_path(const char *format, ...)
{
        GString *s = g_string_new(NULL);
        va_list args;

        va_start(args, format);
        for (const char *p = format; *p; p++) {
                if (p[0] != '%' || p[1] != 's') {
                        g_string_append_c(s, *p);
                        continue;
                }
                g_string_append_uri_escaped(s, va_arg(args, const char *), NULL, FALSE);
                p++;
        }
        va_end(args);
        return g_string_free(s, FALSE);
}

GCancellable *client_cancellable(Client *c)
{
        return c->cli->cancellable;
}

/* Nobody answered; or Ctrl-C. */
static void explain_silence(Client *c, GError *cause, GError **error)
{
        if (g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
                g_propagate_error(error, g_error_copy(cause));
                return;
        }
        if (g_error_matches(cause, G_TLS_ERROR, G_TLS_ERROR_BAD_CERTIFICATE)) {
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                        "whoever answers at %s has another key than the token file says, so the token was "
                        "not sent: a reinstalled host (make a new token there), or somebody in between",
                        cli_host(c->cli));
                return;
        }
        if (c->token) {
                g_set_error(error, CLI_ERROR, CLI_ERROR_DAEMON,
                            "moultd does not answer at %s: %s; does it run there with api-listen, and does a "
                            "firewall let you through?",
                            cli_host(c->cli), cause->message);
                return;
        }
        const char *next =
                g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED)
                        ? "you need to be root or in the socket's group"
                        : "is it running ('systemctl status moultd')? --socket or MOULT_SOCKET name another "
                          "socket";
        g_set_error(error, CLI_ERROR, CLI_ERROR_DAEMON, "moultd does not answer on %s: %s; %s",
                    cli_socket(c->cli), cause->message, next);
}

static MoultError error_code_of_name(const char *name)
{
        for (MoultError code = 0; name && code < MOULT_ERROR_MAX; code++)
                if (!strcmp(moult_error_name(code), name))
                        return code;
        return MOULT_ERROR_UNSPECIFIED;
}

/* {"error": {"code", "text", "hint"}}, or whatever else came with a bad status. */
static void explain_status(SoupMessage *msg, JsonNode *node, GError **error)
{
        JsonObject *o = node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
        const char *text = o ? json_text(o, "error.text") : NULL;
        const char *hint = o ? json_text(o, "error.hint") : NULL;
        guint status = soup_message_get_status(msg);

        if (!text)
                g_set_error(error, CLI_ERROR, CLI_ERROR_DAEMON,
                            "moultd answered with status %u and no reason", status);
        else if (status == SOUP_STATUS_BAD_REQUEST)
                g_set_error(error, CLI_ERROR, CLI_ERROR_USAGE, "%s", text);
        else
                g_set_error(error, MOULT_ERROR, (gint)error_code_of_name(json_text(o, "error.code")),
                            "%s%s%s", text, hint ? "\n" : "", hint ? hint : "");
}

/* The key decides, nothing else: no authority, no name, no date (docs/decisions/0005-tls-pins.md). */
static gboolean on_certificate(SoupMessage *msg, GTlsCertificate *certificate, GTlsCertificateFlags errors,
                               gpointer user)
{
        const Client *c = user;
        g_autoptr(GByteArray) der = NULL;
        guint8 fingerprint[DIGEST_SIZE];
        const guint8 *at;
        gboolean ok = FALSE;
        X509 *cert;

        g_object_get(certificate, "certificate", &der, NULL);
        at = der ? der->data : NULL;
        cert = der ? d2i_X509(NULL, &at, (long)der->len) : NULL;
        if (cert)
                ok = tls_fingerprint(cert, fingerprint) &&
                     memcmp(fingerprint, c->token->fingerprint, DIGEST_SIZE) == 0;
        X509_free(cert);
        return ok;
}

static SoupMessage *new_message(Client *c, const char *method, const char *path)
{
        g_autofree char *uri = g_strconcat(c->base ? c->base : "http://moultd", path, NULL);
        SoupMessage *msg = soup_message_new(method, uri);

        if (c->token) {
                g_autofree char *bearer = g_strconcat("Bearer ", c->token->secret, NULL);

                soup_message_headers_replace(soup_message_get_request_headers(msg), "Authorization", bearer);
                soup_message_set_flags(msg, SOUP_MESSAGE_NO_REDIRECT);
                g_signal_connect(msg, "accept-certificate", G_CALLBACK(on_certificate), c);
        }
        return msg;
}

/* TRUE if somebody can be asked. */
static gboolean is_usable(const Client *c, GError **error)
{
        if (c->unusable)
                g_propagate_error(error, g_error_copy(c->unusable));
        return !c->unusable;
}

static GBytes *read_all(GInputStream *in, GCancellable *cancellable, GError **error)
{
        g_autoptr(GByteArray) all = g_byte_array_new();
        g_autofree guint8 *buf = g_malloc(65536);

        for (;;) {
                gssize n = g_input_stream_read(in, buf, 65536, cancellable, error);

                if (n < 0)
                        return NULL;
                if (n == 0)
                        return g_byte_array_free_to_bytes(g_steal_pointer(&all));
                if (all->len + (gsize)n > ANSWER_MAX) {
                        g_set_error(error, CLI_ERROR, CLI_ERROR_DAEMON,
                                    "moultd's answer is larger than 256 MiB");
                        return NULL;
                }
                g_byte_array_append(all, buf, (guint)n);
        }
}

/* One request. *ret_silent: nobody answered, so it may not have been done. */
static JsonNode *send_once(Client *c, SoupMessage *msg, gboolean *ret_silent, GError **error)
{
        g_autoptr(GError) cause = NULL;

        *ret_silent = FALSE;
        if (!is_usable(c, error))
                return NULL;
        g_autoptr(GInputStream) in = soup_session_send(c->session, msg, c->cli->cancellable, &cause);
        g_autoptr(GBytes) body = in ? read_all(in, c->cli->cancellable, &cause) : NULL;
        g_autoptr(JsonParser) parser = json_parser_new();

        *ret_silent = body == NULL;
        if (!body) {
                explain_silence(c, cause, error);
                return NULL;
        }
        gsize len;
        const char *text = g_bytes_get_data(body, &len);
        gboolean is_json = len > 0 && json_parser_load_from_data(parser, text, (gssize)len, NULL);
        JsonNode *root = is_json ? json_parser_get_root(parser) : NULL;
        if (soup_message_get_status(msg) >= 300) {
                explain_status(msg, root, error);
                return NULL;
        }
        if (len > 0 && !root) {
                g_set_error(error, CLI_ERROR, CLI_ERROR_DAEMON, "moultd's answer is not JSON");
                return NULL;
        }
        return root ? json_parser_steal_root(parser) : json_node_init_null(json_node_alloc());
}

JsonNode *client_get(Client *c, const char *path, GError **error)
{
        g_autoptr(SoupMessage) msg = new_message(c, "GET", path);
        gboolean silent;

        return send_once(c, msg, &silent, error);
}

JsonNode *client_delete(Client *c, const char *path, GError **error)
{
        g_autoptr(SoupMessage) msg = new_message(c, "DELETE", path);
        gboolean silent;

        return send_once(c, msg, &silent, error);
}

static gboolean on_pause_over(gpointer data)
{
        *(gboolean *)data = TRUE;
        return G_SOURCE_REMOVE;
}

static gboolean on_interrupt(GCancellable *cancellable, gpointer data)
{
        *(gboolean *)data = TRUE;
        return G_SOURCE_REMOVE;
}

gboolean client_pause(Client *c, unsigned ms, GError **error)
{
        g_autoptr(GMainContext) context = g_main_context_new();
        g_autoptr(GSource) timer = g_timeout_source_new(ms);
        g_autoptr(GSource) interrupt = g_cancellable_source_new(c->cli->cancellable);
        gboolean over = FALSE, interrupted = FALSE;

        g_source_set_callback(timer, on_pause_over, &over, NULL);
        g_source_set_callback(interrupt, G_SOURCE_FUNC(on_interrupt), &interrupted, NULL);
        g_source_attach(timer, context);
        g_source_attach(interrupt, context);
        while (!over && !interrupted)
                g_main_context_iteration(context, TRUE);
        g_source_destroy(timer);
        g_source_destroy(interrupt);
        return !g_cancellable_set_error_if_cancelled(c->cli->cancellable, error);
}

/* It becomes a header. */
static gboolean check_key(const char *key, GError **error)
{
        gsize len = strlen(key);

        for (gsize i = 0; i < len; i++)
                if (!g_ascii_isgraph(key[i]))
                        len = 0;
        if (len > 0 && len <= KEY_MAX)
                return TRUE;
        g_set_error(error, CLI_ERROR, CLI_ERROR_USAGE,
                    "--idempotency-key is 1 to %d printable ASCII characters without blanks", KEY_MAX);
        return FALSE;
}

JsonNode *client_post(Client *c, const char *path, JsonObject *body, const char *key, GError **error)
{
        g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), body ? body : json_object_new());
        g_autofree char *own_key = key ? NULL : g_uuid_string_random();
        g_autofree char *text = json_to_string(node, FALSE);
        g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));

        json_object_unref(json_node_get_object(node));
        if (key && !check_key(key, error))
                return NULL;
        for (unsigned tries = 1;; tries++) {
                g_autoptr(SoupMessage) msg = new_message(c, "POST", path);
                g_autoptr(GError) cause = NULL;
                gboolean silent;

                soup_message_set_request_body_from_bytes(msg, "application/json", bytes);
                soup_message_headers_replace(soup_message_get_request_headers(msg), "Idempotency-Key",
                                             key ? key : own_key);
                JsonNode *answer = send_once(c, msg, &silent, &cause);
                if (answer)
                        return answer;
                /* The first try tells whether there is anybody at all; later ones bridge a restart. */
                if (!silent || tries == POST_TRIES ||
                    g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
                    (tries == 1 && !soup_message_get_connection_id(msg))) {
                        g_propagate_error(error, g_steal_pointer(&cause));
                        return NULL;
                }
                if (!client_pause(c, POST_PAUSE_MS, error))
                        return NULL;
        }
}

GInputStream *client_open_events(Client *c, const char *path, gint64 after, GError **error)
{
        g_autoptr(SoupMessage) msg = new_message(c, "GET", path);
        g_autofree char *id = g_strdup_printf("%" G_GINT64_FORMAT, after);
        g_autoptr(GError) cause = NULL;

        if (!is_usable(c, error))
                return NULL;
        soup_message_headers_replace(soup_message_get_request_headers(msg), "Accept", "text/event-stream");
        soup_message_headers_replace(soup_message_get_request_headers(msg), "Last-Event-ID", id);
        g_autoptr(GInputStream) in = soup_session_send(c->session, msg, c->cli->cancellable, &cause);
        if (!in) {
                explain_silence(c, cause, error);
                return NULL;
        }
        if (soup_message_get_status(msg) < 300)
                return g_steal_pointer(&in);
        g_autoptr(GBytes) body = read_all(in, c->cli->cancellable, NULL);
        gsize len = 0;
        const char *text = body ? g_bytes_get_data(body, &len) : NULL;
        g_autoptr(JsonParser) parser = json_parser_new();
        gboolean is_json = len > 0 && json_parser_load_from_data(parser, text, (gssize)len, NULL);
        explain_status(msg, is_json ? json_parser_get_root(parser) : NULL, error);
        return NULL;
}
