/* host-service/env_real_objects_s3.c - the shared store as a bucket of an S3 service, over libcurl.
 *
 * libcurl signs (AWS signature version 4). One request is one attempt: who calls us decides about the next.
 * Connections are kept in a pool of handles. Nothing that a server says is passed on but the name of its
 * error: its messages may repeat what was signed. */
#include <curl/curl.h>
#include <fcntl.h>
#include <string.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/fd.h"
#include "host-service/object_store.h"
#include "host-service/s3_credentials.h"
#include "host-service/s3_list.h"

#define CONNECT_TIMEOUT_S 10L
#define SLOW_BYTES        1024L /* per second */
#define ERROR_BODY_MAX    16384u
#define CA_MAX            (4u << 20)
#define LIST_BODY_MAX     (16u << 20)

typedef struct {
        ObjectStore base;
        char *bucket_url, *url; /* endpoint/bucket, and with the prefix; without '/' at their ends */
        gsize path_at;          /* in them: where "/bucket" begins */
        char *prefix;           /* "" or "PREFIX/" */
        char *sigv4;
        S3Credentials *credentials;
        GBytes *ca; /* PEM; NULL: the system's */
        long timeout_s;
        GMutex lock;
        GQueue idle; /* of CURL */
} S3Store;

/* One request and what came of it. */
struct exchange {
        GByteArray *answer;
        gsize max;
        gboolean too_long;
        const guint8 *body; /* of a PUT */
        gsize body_len, sent;
        GCancellable *cancellable;
        char tls_error[CURL_ERROR_SIZE];
        const char *copy_source;   /* of a PUT that copies, escaped; or NULL */
        long status;               /* of the answer, and: */
        gint64 date_s, modified_s; /* 0: it does not say */
};

static CURL *take_handle(S3Store *s)
{
        CURL *c;

        g_mutex_lock(&s->lock);
        c = g_queue_pop_head(&s->idle);
        g_mutex_unlock(&s->lock);
        return c ? c : curl_easy_init();
}

/* The options go, so that no secret and no pointer stays; the connection is kept. */
static void give_handle(S3Store *s, CURL *c)
{
        curl_easy_reset(c);
        g_mutex_lock(&s->lock);
        g_queue_push_head(&s->idle, c);
        g_mutex_unlock(&s->lock);
}

static size_t on_answer(char *data, size_t size, size_t n, void *user)
{
        struct exchange *x = user;

        if (size * n > x->max - x->answer->len) {
                x->too_long = TRUE;
                return 0;
        }
        g_byte_array_append(x->answer, (const guint8 *)data, (guint)(size * n));
        return size * n;
}

static size_t on_body(char *buffer, size_t size, size_t n, void *user)
{
        struct exchange *x = user;
        size_t len = MIN(size * n, x->body_len - x->sent);

        memcpy(buffer, x->body + x->sent, len);
        x->sent += len;
        return len;
}

static int on_seek(void *user, curl_off_t offset, int origin)
{
        struct exchange *x = user;

        if (origin != SEEK_SET || offset < 0 || (gsize)offset > x->body_len)
                return CURL_SEEKFUNC_FAIL;
        x->sent = (gsize)offset;
        return CURL_SEEKFUNC_OK;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
        return g_cancellable_is_cancelled(((struct exchange *)user)->cancellable);
}

/* The <Code> of an S3 error, if it looks like one. */
static char *error_code(const struct exchange *x)
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

static gboolean curl_failure(const S3Store *s, const struct exchange *x, CURLcode r, const char *key,
                             GError **error)
{
        if (g_cancellable_set_error_if_cancelled(x->cancellable, error))
                return FALSE;
        if (x->too_long)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "%s: %s is longer than it may be",
                            s->base.name, key);
        else if (r == CURLE_PARTIAL_FILE || r == CURLE_GOT_NOTHING || r == CURLE_WEIRD_SERVER_REPLY)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "%s: the answer for %s was cut short",
                            s->base.name, key);
        else if (r == CURLE_PEER_FAILED_VERIFICATION)
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                        "%s: the service does not prove that it is the one that s3-endpoint names (%s); "
                        "nothing was sent to it. If its certificate is of a CA of your own, name that CA's "
                        "in s3-ca",
                        s->base.name, *x->tls_error ? x->tls_error : curl_easy_strerror(r));
        else if (r == CURLE_URL_MALFORMAT || r == CURLE_UNSUPPORTED_PROTOCOL || r == CURLE_SSL_CACERT_BADFILE)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                            "%s: %s; look at s3-endpoint and s3-ca", s->base.name, curl_easy_strerror(r));
        else
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT, "%s: %s: %s", s->base.name, key,
                            curl_easy_strerror(r));
        return FALSE;
}

static gboolean status_failure(const S3Store *s, const struct exchange *x, long status, const char *key,
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
        g_set_error(error, MOULT_ERROR, kind, "%s: %s: the service answers %ld (%s)%s", s->base.name, key,
                    status, code, hint);
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

static void set_options(S3Store *s, CURL *c, struct exchange *x, const char *url, const char *method,
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

/* The body's digest is signed too: what arrives is what was meant. libcurl 7.88 signs every header of this
 * list, also one without a value, which it does not send: no "Expect:" here. */
static gint64 header_date(CURL *c, const char *name)
{
        struct curl_header *h;
        time_t at = -1;

        if (curl_easy_header(c, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK)
                at = curl_getdate(h->value, NULL);
        return at < 0 ? 0 : (gint64)at;
}

static struct curl_slist *make_headers(const S3Store *s, const struct exchange *x)
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

/* Keys hold '+', ':' and '~', and what is signed is the path as it stands: escaped as S3 does it. */
static char *make_url(const S3Store *s, const char *key)
{
        g_autofree char *escaped = g_uri_escape_string(key, "/", FALSE);

        return g_strconcat(s->url, "/", escaped, NULL);
}

/* @key for errors. *ret_found (or NULL): FALSE for a 404, which is no error then. */
static gboolean request_url(S3Store *s, const char *method, const char *url, const char *key,
                            struct exchange *x, gboolean *ret_found, GError **error)
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

static gboolean request(S3Store *s, const char *method, const char *key, struct exchange *x,
                        gboolean *ret_found, GError **error)
{
        g_autofree char *url = make_url(s, key);

        return request_url(s, method, url, key, x, ret_found, error);
}

static GBytes *s3_get(ObjectStore *store, const char *key, gsize max_bytes, GCancellable *cancellable,
                      GError **error)
{
        struct exchange x = {.answer = g_byte_array_new(),
                             .max = MAX(max_bytes, ERROR_BODY_MAX),
                             .cancellable = cancellable};

        if (request((S3Store *)store, "GET", key, &x, NULL, error))
                return g_byte_array_free_to_bytes(x.answer);
        g_byte_array_unref(x.answer);
        return NULL;
}

static gboolean s3_put(ObjectStore *store, const char *key, GBytes *data, GCancellable *cancellable,
                       GError **error)
{
        struct exchange x = {.answer = g_byte_array_new(), .max = ERROR_BODY_MAX, .cancellable = cancellable};
        gboolean ok;

        x.body = g_bytes_get_data(data, &x.body_len);
        ok = request((S3Store *)store, "PUT", key, &x, NULL, error);
        g_byte_array_unref(x.answer);
        return ok;
}

/* @x takes the times of the answer; its other members are set here. */
static gboolean head(ObjectStore *store, const char *key, gboolean *ret, struct exchange *x, GError **error)
{
        gboolean ok;

        x->answer = g_byte_array_new();
        x->max = ERROR_BODY_MAX;
        ok = request((S3Store *)store, "HEAD", key, x, ret, error);
        g_byte_array_unref(x->answer);
        return ok;
}

static gboolean no_time(const ObjectStore *store, const char *key, const char *header, GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "%s: %s: the answer has no %s", store->name, key,
                    header);
        return FALSE;
}

static gboolean s3_has(ObjectStore *store, const char *key, gboolean *ret, gint64 *ret_modified_s,
                       GCancellable *cancellable, GError **error)
{
        struct exchange x = {.cancellable = cancellable};

        if (!head(store, key, ret, &x, error))
                return FALSE;
        if (!*ret || !ret_modified_s)
                return TRUE;
        if (x.modified_s == 0)
                return no_time(store, key, "Last-Modified", error);
        *ret_modified_s = x.modified_s;
        return TRUE;
}

/* Any answer tells the time, also "not found". */
static gboolean s3_now(ObjectStore *store, gint64 *ret_s, GCancellable *cancellable, GError **error)
{
        static const char key[] = "chunks/now";
        struct exchange x = {.cancellable = cancellable};
        gboolean found;

        if (!head(store, key, &found, &x, error))
                return FALSE;
        if (x.date_s == 0)
                return no_time(store, key, "Date", error);
        *ret_s = x.date_s;
        return TRUE;
}

/* A copy onto itself. Services may answer 200 to one that has failed half-way. */
static gboolean s3_touch(ObjectStore *store, const char *key, gboolean *ret, GCancellable *cancellable,
                         GError **error)
{
        S3Store *s = (S3Store *)store;
        g_autoptr(GByteArray) answer = g_byte_array_new();
        g_autofree char *url = make_url(s, key);
        struct exchange x = {.answer = answer,
                             .max = ERROR_BODY_MAX,
                             .body = (const guint8 *)"",
                             .cancellable = cancellable,
                             .copy_source = url + s->path_at};
        g_autoptr(GError) why = NULL;

        *ret = request_url(s, "PUT", url, key, &x, NULL, &why);
        if (*ret && answer->len > 0 && g_strstr_len((const char *)answer->data, answer->len, "<Error>"))
                *ret = FALSE;
        if (!why || x.status == 501 || g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND) ||
            g_error_matches(why, MOULT_ERROR, MOULT_ERROR_REFUSED))
                return TRUE;
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
}

static gboolean s3_remove(ObjectStore *store, const char *key, GCancellable *cancellable, GError **error)
{
        g_autoptr(GByteArray) answer = g_byte_array_new();
        struct exchange x = {.answer = answer, .max = ERROR_BODY_MAX, .cancellable = cancellable};
        gboolean found;

        return request((S3Store *)store, "DELETE", key, &x, &found, error);
}

/* The query as it is signed: its members in order, everything escaped. */
static char *list_url(const S3Store *s, const char *prefix, const char *token)
{
        g_autofree char *whole = g_strconcat(s->prefix, prefix, NULL),
                        *escaped = g_uri_escape_string(whole, NULL, FALSE),
                        *from = token ? g_uri_escape_string(token, NULL, FALSE) : NULL;

        return g_strdup_printf("%s?%s%s%slist-type=2&prefix=%s", s->bucket_url,
                               from ? "continuation-token=" : "", from ? from : "", from ? "&" : "", escaped);
}

/* One page: appends to @entries; *token becomes that of the next one, or NULL. */
static gboolean list_page(S3Store *s, const char *prefix, char **token, GPtrArray *entries,
                          GCancellable *cancellable, GError **error)
{
        g_autoptr(GByteArray) answer = g_byte_array_new();
        struct exchange x = {.answer = answer, .max = LIST_BODY_MAX, .cancellable = cancellable};
        g_autofree char *url = list_url(s, prefix, *token);
        g_auto(S3List) page = {0};
        const char *why;

        if (!request_url(s, "GET", url, prefix, &x, NULL, error))
                return FALSE;
        why = s3_list_parse((const char *)answer->data, answer->len, &page);
        for (guint i = 0; !why && i < page.entries->len; i++) {
                const struct object_entry *e = page.entries->pdata[i];

                if (g_str_has_prefix(e->key, s->prefix))
                        g_ptr_array_add(entries,
                                        object_entry_new(e->key + strlen(s->prefix), e->size, e->modified_s));
                else
                        why = "an object is not below what was asked for";
        }
        if (!why && page.next && g_strcmp0(page.next, *token) == 0)
                why = "it goes round in circles";
        if (why) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "%s: the list of %s: %s", s->base.name,
                            prefix, why);
                return FALSE;
        }
        g_free(*token);
        *token = g_steal_pointer(&page.next);
        return TRUE;
}

static GPtrArray *s3_list(ObjectStore *store, const char *prefix, GCancellable *cancellable, GError **error)
{
        g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func(object_entry_free);
        g_autofree char *token = NULL;

        do {
                if (!list_page((S3Store *)store, prefix, &token, entries, cancellable, error))
                        return NULL;
        } while (token);
        return g_steal_pointer(&entries);
}

static void s3_free(ObjectStore *store)
{
        S3Store *s = (S3Store *)store;

        g_queue_clear_full(&s->idle, curl_easy_cleanup);
        g_mutex_clear(&s->lock);
        s3_credentials_free(s->credentials);
        g_free(s->base.name);
        g_clear_pointer(&s->ca, g_bytes_unref);
        g_free(s->bucket_url);
        g_free(s->url);
        g_free(s->prefix);
        g_free(s->sigv4);
        g_free(s);
}

static const struct object_store_ops ops = {s3_get,    s3_put, s3_has,  s3_touch,
                                            s3_remove, s3_now, s3_list, s3_free};

static const char *config_refusal(const struct s3_config *c)
{
        const char *host = NULL;

        if (c->endpoint && g_str_has_prefix(c->endpoint, "https://"))
                host = c->endpoint + strlen("https://");
        else if (c->endpoint && g_str_has_prefix(c->endpoint, "http://"))
                host = c->endpoint + strlen("http://");
        if (!host || *host == '\0' || strpbrk(host, "/@?# "))
                return "s3-endpoint must be https://HOST or https://HOST:PORT";
        if (*c->bucket == '\0' ||
            strspn(c->bucket, "abcdefghijklmnopqrstuvwxyz0123456789.-") != strlen(c->bucket))
                return "the bucket's name in shared-store must be of lower-case letters, digits, '.' and '-'";
        if (strspn(c->region, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(c->region) || !*c->region)
                return "s3-region must be of lower-case letters, digits and '-'";
        if (strstr(c->prefix, "//") || strstr(c->prefix, ".."))
                return "the prefix in shared-store holds \"//\" or \"..\"";
        return NULL;
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

ObjectStore *object_store_s3_new(const struct s3_config *config, GError **error)
{
        const char *why = config_refusal(config);
        g_autoptr(S3Credentials) credentials = NULL;
        g_autofree char *prefix = NULL;
        g_autoptr(GBytes) ca = NULL;
        S3Store *s;

        if (why) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "%s", why);
                return NULL;
        }
        credentials = s3_credentials_load(config->credentials, error);
        if (!credentials || !load_ca(config->ca, &ca, error))
                return NULL;
        curl_global_init(CURL_GLOBAL_DEFAULT);
        s = g_new0(S3Store, 1);
        s->base.ops = &ops;
        s->base.name = g_strdup_printf("s3://%s%s%s at %s", config->bucket, *config->prefix ? "/" : "",
                                       config->prefix, config->endpoint);
        prefix = g_uri_escape_string(config->prefix, "/", FALSE);
        s->path_at = strlen(config->endpoint);
        s->bucket_url = g_strdup_printf("%s/%s", config->endpoint, config->bucket);
        s->url = g_strdup_printf("%s%s%s", s->bucket_url, *prefix ? "/" : "", prefix);
        s->prefix = g_strdup_printf("%s%s", config->prefix, *prefix ? "/" : "");
        s->sigv4 = g_strdup_printf("aws:amz:%s:s3", config->region);
        s->credentials = g_steal_pointer(&credentials);
        s->ca = g_steal_pointer(&ca);
        s->timeout_s = (long)config->timeout_s;
        g_mutex_init(&s->lock);
        g_queue_init(&s->idle);
        return &s->base;
}
