/* host-service/s3_client.c - requests over libcurl, which signs them. */
#include "host-service/s3_client.h"

#include <fcntl.h>
#include <string.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/fd.h"
#include "host-service/s3_credentials.h"

#define CONNECT_TIMEOUT_S 10L
#define SLOW_BYTES        1024L /* per second */
#define CA_MAX            (4u << 20)

struct S3Client {
        char *name, *sigv4;
        S3Credentials *credentials;
        GBytes *ca; /* PEM; NULL: the system's */
        long timeout_s;
        GMutex lock;
        GQueue idle; /* of CURL */
};

static CURL *take_handle(S3Client *s)
{
        CURL *c;

        g_mutex_lock(&s->lock);
        c = g_queue_pop_head(&s->idle);
        g_mutex_unlock(&s->lock);
        return c ? c : curl_easy_init();
}

/* The options go, so that no secret and no pointer stays; the connection is kept. */
static void give_handle(S3Client *s, CURL *c)
{
        curl_easy_reset(c);
        g_mutex_lock(&s->lock);
        g_queue_push_head(&s->idle, c);
        g_mutex_unlock(&s->lock);
}

static size_t on_answer(char *data, size_t size, size_t n, void *user)
{
        struct s3_exchange *x = user;

        if (size * n > x->max - x->answer->len) {
                x->too_long = TRUE;
                return 0;
        }
        g_byte_array_append(x->answer, (const guint8 *)data, (guint)(size * n));
        return size * n;
}

static size_t on_body(char *buffer, size_t size, size_t n, void *user)
{
        struct s3_exchange *x = user;
        size_t len = MIN(size * n, x->body_len - x->sent);

        memcpy(buffer, x->body + x->sent, len);
        x->sent += len;
        return len;
}

static int on_seek(void *user, curl_off_t offset, int origin)
{
        struct s3_exchange *x = user;

        if (origin != SEEK_SET || offset < 0 || (gsize)offset > x->body_len)
                return CURL_SEEKFUNC_FAIL;
        x->sent = (gsize)offset;
        return CURL_SEEKFUNC_OK;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
        return g_cancellable_is_cancelled(((struct s3_exchange *)user)->cancellable);
}

/* The <Code> of an S3 error, if it looks like one. */
static char *error_code(const struct s3_exchange *x)
{
        g_autofree char *text =
                x->answer->len ? g_strndup((const char *)x->answer->data, x->answer->len) : g_strdup("");
        const char *start = strstr(text, "<Code>");
        gsize len;

        if (!start)
                return g_strdup("no reason given");
        start += strlen("<Code>");
        len = strspn(start, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
        return len > 0 && len <= 64 && g_str_has_prefix(start + len, "</Code>") ? g_strndup(start, len)
                                                                                : g_strdup("no reason given");
}

static gboolean curl_failure(const S3Client *s, const struct s3_exchange *x, CURLcode r, const char *key,
                             GError **error)
{
        if (g_cancellable_set_error_if_cancelled(x->cancellable, error))
                return FALSE;
        if (x->too_long)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "%s: %s is longer than it may be",
                            s->name, key);
        else if (r == CURLE_PARTIAL_FILE || r == CURLE_GOT_NOTHING || r == CURLE_WEIRD_SERVER_REPLY)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "%s: the answer for %s was cut short",
                            s->name, key);
        else if (r == CURLE_PEER_FAILED_VERIFICATION)
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                        "%s: the service does not prove that it is the one that s3-endpoint names (%s); "
                        "nothing was sent to it. If its certificate is of a CA of your own, name that CA's "
                        "in s3-ca",
                        s->name, *x->tls_error ? x->tls_error : curl_easy_strerror(r));
        else if (r == CURLE_URL_MALFORMAT || r == CURLE_UNSUPPORTED_PROTOCOL || r == CURLE_SSL_CACERT_BADFILE)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                            "%s: %s; look at s3-endpoint and s3-ca", s->name, curl_easy_strerror(r));
        else
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT, "%s: %s: %s", s->name, key,
                            curl_easy_strerror(r));
        return FALSE;
}

static gboolean status_failure(const S3Client *s, const struct s3_exchange *x, long status, const char *key,
                               GError **error)
{
        g_autofree char *code = error_code(x);
        MoultError kind = MOULT_ERROR_REFUSED;
        const char *hint = "";

        if (status >= 500 || status == 429 || status == 408) {
                kind = MOULT_ERROR_TIMEOUT;
        } else if (status == 404 && !g_str_equal(code, "NoSuchBucket")) {
                kind = MOULT_ERROR_NOT_FOUND;
        } else if (status == 404) {
                hint = ": make the bucket first, or correct shared-store";
        } else if (status == 401 || status == 403) {
                kind = MOULT_ERROR_UNTRUSTED;
                hint = ": look at s3-credentials, s3-region, this host's clock, and the bucket's policy";
        } else if (status == 507) {
                kind = MOULT_ERROR_NO_SPACE;
        }
        g_set_error(error, MOULT_ERROR, kind, "%s: %s: the service answers %ld (%s)%s", s->name, key, status,
                    code, hint);
        return FALSE;
}

/* And no other. */
static void use_ca(GBytes *ca, CURL *c)
{
        gsize len;
        const void *data = g_bytes_get_data(ca, &len);
        struct curl_blob blob = {.data = (void *)data, .len = len, .flags = CURL_BLOB_COPY};

        curl_easy_setopt(c, CURLOPT_CAINFO_BLOB, &blob);
        curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
}

static void set_options(S3Client *s, CURL *c, struct s3_exchange *x, const char *url, const char *method,
                        struct curl_slist *headers)
{
        curl_easy_setopt(c, CURLOPT_URL, url);
        curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(c, CURLOPT_AWS_SIGV4, s->sigv4);
        curl_easy_setopt(c, CURLOPT_USERNAME, s->credentials->access_key);
        curl_easy_setopt(c, CURLOPT_PASSWORD, s->credentials->secret_key);
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(c, CURLOPT_ERRORBUFFER, x->tls_error);
        if (s->ca)
                use_ca(s->ca, c);
        curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, MIN(CONNECT_TIMEOUT_S, s->timeout_s));
        curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, SLOW_BYTES);
        curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, s->timeout_s);
        curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(c, CURLOPT_XFERINFODATA, x);
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_answer);
        curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
        if (g_str_equal(method, "DELETE"))
                curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "DELETE");
        if (g_str_equal(method, "HEAD"))
                curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
        if (g_str_equal(method, "PUT")) {
                curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
                curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)x->body_len);
                curl_easy_setopt(c, CURLOPT_READFUNCTION, on_body);
                curl_easy_setopt(c, CURLOPT_READDATA, x);
                curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
                curl_easy_setopt(c, CURLOPT_SEEKDATA, x);
        }
}

static gint64 header_date(CURL *c, const char *name)
{
        struct curl_header *h;
        time_t at = -1;

        if (curl_easy_header(c, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK)
                at = curl_getdate(h->value, NULL);
        return at < 0 ? 0 : (gint64)at;
}

/* The body's digest is signed too: what arrives is what was meant. libcurl 7.88 signs every header of this
 * list, also one without a value, which it does not send: no "Expect:" here. */
static struct curl_slist *make_headers(const S3Client *s, const struct s3_exchange *x)
{
        g_autoptr(Hasher) h = hasher_new();
        uint8_t digest[DIGEST_SIZE];
        char hex[2 * DIGEST_SIZE + 1];
        g_autofree char *hash = NULL, *token = NULL;
        struct curl_slist *list;

        hasher_sha256(h, x->body ? x->body : (const guint8 *)"", x->body_len, digest);
        digest_to_hex(digest, hex);
        hash = g_strconcat("x-amz-content-sha256: ", hex, NULL);
        list = curl_slist_append(NULL, hash);
        if (s->credentials->session_token) {
                token = g_strconcat("x-amz-security-token: ", s->credentials->session_token, NULL);
                list = curl_slist_append(list, token);
        }
        if (x->copy_source) {
                g_autofree char *source = g_strconcat("x-amz-copy-source: ", x->copy_source, NULL);

                list = curl_slist_append(list, source);
                list = curl_slist_append(list, "x-amz-metadata-directive: REPLACE");
        }
        return list;
}

gboolean s3_client_request(S3Client *s, const char *method, const char *url, const char *key,
                           struct s3_exchange *x, gboolean *ret_found, GError **error)
{
        struct curl_slist *headers = make_headers(s, x);
        CURL *c = take_handle(s);
        CURLcode r;

        set_options(s, c, x, url, method, headers);
        r = curl_easy_perform(c);
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &x->status);
        x->date_s = header_date(c, "Date");
        x->modified_s = header_date(c, "Last-Modified");
        give_handle(s, c);
        curl_slist_free_all(headers);
        if (r != CURLE_OK)
                return curl_failure(s, x, r, key, error);
        if (ret_found)
                *ret_found = x->status != 404;
        if (x->status / 100 == 2 || (ret_found && x->status == 404))
                return TRUE;
        return status_failure(s, x, x->status, key, error);
}

/* *ret NULL: none is set. */
static gboolean load_ca(const char *path, GBytes **ret, GError **error)
{
        *ret = NULL;
        if (!path)
                return TRUE;
        *ret = fd_read_file_at(AT_FDCWD, path, CA_MAX, error);
        if (!*ret) {
                g_prefix_error(error, "s3-ca: ");
                return FALSE;
        }
        if (g_bytes_get_size(*ret) > 0 &&
            g_strstr_len(g_bytes_get_data(*ret, NULL), (gssize)g_bytes_get_size(*ret),
                         "-----BEGIN CERTIFICATE-----"))
                return TRUE;
        g_clear_pointer(ret, g_bytes_unref);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                    "s3-ca: %s has no certificate in it (PEM: \"-----BEGIN CERTIFICATE-----\")", path);
        return FALSE;
}

S3Client *s3_client_new(const struct s3_config *config, const char *name, GError **error)
{
        g_autoptr(S3Credentials) credentials = s3_credentials_load(config->credentials, error);
        g_autoptr(GBytes) ca = NULL;
        S3Client *s;

        if (!credentials || !load_ca(config->ca, &ca, error))
                return NULL;
        curl_global_init(CURL_GLOBAL_DEFAULT);
        s = g_new0(S3Client, 1);
        s->name = g_strdup(name);
        s->sigv4 = g_strdup_printf("aws:amz:%s:s3", config->region);
        s->credentials = g_steal_pointer(&credentials);
        s->ca = g_steal_pointer(&ca);
        s->timeout_s = (long)config->timeout_s;
        g_mutex_init(&s->lock);
        g_queue_init(&s->idle);
        return s;
}

void s3_client_free(S3Client *s)
{
        if (!s)
                return;
        g_queue_clear_full(&s->idle, curl_easy_cleanup);
        g_mutex_clear(&s->lock);
        s3_credentials_free(s->credentials);
        g_clear_pointer(&s->ca, g_bytes_unref);
        g_free(s->name);
        g_free(s->sigv4);
        g_free(s);
}
