/* host-service/env_real_objects_s3.c - the shared store as a bucket of an S3 service. */
#include <string.h>

#include "common/error.h"
#include "host-service/s3_client.h"
#include "host-service/s3_list.h"

#define LIST_BODY_MAX (16u << 20)

typedef struct {
        ObjectStore base;
        char *bucket_url, *url; /* endpoint/bucket, and with the prefix; without '/' at their ends */
        gsize path_at;          /* in them: where "/bucket" begins */
        char *prefix;           /* "" or "PREFIX/" */
        S3Client *client;
} S3Store;

/* Keys hold '+', ':' and '~', and what is signed is the path as it stands: escaped as S3 does it. */
static char *make_url(const S3Store *s, const char *key)
{
        g_autofree char *escaped = g_uri_escape_string(key, "/", FALSE);

        return g_strconcat(s->url, "/", escaped, NULL);
}

static gboolean request(S3Store *s, const char *method, const char *key, struct s3_exchange *x,
                        gboolean *ret_found, GError **error)
{
        g_autofree char *url = make_url(s, key);

        return s3_client_request(s->client, method, url, key, x, ret_found, error);
}

static GBytes *s3_get(ObjectStore *store, const char *key, gsize max_bytes, GCancellable *cancellable,
                      GError **error)
{
        struct s3_exchange x = {.answer = g_byte_array_new(),
                                .max = MAX(max_bytes, S3_ERROR_BODY_MAX),
                                .cancellable = cancellable};

        if (request((S3Store *)store, "GET", key, &x, NULL, error))
                return g_byte_array_free_to_bytes(x.answer);
        g_byte_array_unref(x.answer);
        return NULL;
}

static gboolean s3_put(ObjectStore *store, const char *key, GBytes *data, GCancellable *cancellable,
                       GError **error)
{
        struct s3_exchange x = {
                .answer = g_byte_array_new(), .max = S3_ERROR_BODY_MAX, .cancellable = cancellable};
        gboolean ok;

        x.body = g_bytes_get_data(data, &x.body_len);
        ok = request((S3Store *)store, "PUT", key, &x, NULL, error);
        g_byte_array_unref(x.answer);
        return ok;
}

/* @x takes the times of the answer; its other members are set here. */
static gboolean head(ObjectStore *store, const char *key, gboolean *ret, struct s3_exchange *x,
                     GError **error)
{
        gboolean ok;

        x->answer = g_byte_array_new();
        x->max = S3_ERROR_BODY_MAX;
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
        struct s3_exchange x = {.cancellable = cancellable};

        if (!head(store, key, ret, &x, error))
                return FALSE;
        if (!*ret || !ret_modified_s)
                return TRUE;
        if (x.modified_s == 0)
                return no_time(store, key, "Last-Modified", error);
        *ret_modified_s = x.modified_s;
        return TRUE;
}

/* Any answer tells the time, also "not found". Not HEAD: a refusal of that does not say why. */
static gboolean s3_now(ObjectStore *store, gint64 *ret_s, GCancellable *cancellable, GError **error)
{
        static const char key[] = "chunks/now";
        g_autoptr(GByteArray) answer = g_byte_array_new();
        struct s3_exchange x = {.answer = answer, .max = S3_ERROR_BODY_MAX, .cancellable = cancellable};
        gboolean found;

        if (!request((S3Store *)store, "GET", key, &x, &found, error))
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
        struct s3_exchange x = {.answer = answer,
                                .max = S3_ERROR_BODY_MAX,
                                .body = (const guint8 *)"",
                                .cancellable = cancellable,
                                .copy_source = url + s->path_at};
        g_autoptr(GError) why = NULL;

        *ret = s3_client_request(s->client, "PUT", url, key, &x, NULL, &why);
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
        struct s3_exchange x = {.answer = answer, .max = S3_ERROR_BODY_MAX, .cancellable = cancellable};
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
        struct s3_exchange x = {.answer = answer, .max = LIST_BODY_MAX, .cancellable = cancellable};
        g_autofree char *url = list_url(s, prefix, *token);
        g_auto(S3List) page = {0};
        const char *why;

        if (!s3_client_request(s->client, "GET", url, prefix, &x, NULL, error))
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

        s3_client_free(s->client);
        g_free(s->base.name);
        g_free(s->bucket_url);
        g_free(s->url);
        g_free(s->prefix);
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

ObjectStore *object_store_s3_new(const struct s3_config *config, GError **error)
{
        const char *why = config_refusal(config);
        g_autofree char *name = NULL, *prefix = NULL;
        g_autoptr(S3Client) client = NULL;
        S3Store *s;

        if (why) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "%s", why);
                return NULL;
        }
        name = g_strdup_printf("s3://%s%s%s at %s", config->bucket, *config->prefix ? "/" : "",
                               config->prefix, config->endpoint);
        client = s3_client_new(config, name, error);
        if (!client)
                return NULL;
        s = g_new0(S3Store, 1);
        s->base.ops = &ops;
        s->base.name = g_steal_pointer(&name);
        s->client = g_steal_pointer(&client);
        prefix = g_uri_escape_string(config->prefix, "/", FALSE);
        s->path_at = strlen(config->endpoint);
        s->bucket_url = g_strdup_printf("%s/%s", config->endpoint, config->bucket);
        s->url = g_strdup_printf("%s%s%s", s->bucket_url, *prefix ? "/" : "", prefix);
        s->prefix = g_strdup_printf("%s%s", config->prefix, *prefix ? "/" : "");
        return &s->base;
}
