/* host-service/api/api.c - the HTTP server: gates, dispatch, Idempotency-Key. */
#include "host-service/api/api.h"

#include <openssl/crypto.h>
#include <string.h>

#include "host-service/api/audit.h"
#include "host-service/api/call.h"
#include "host-service/api/connections.h"
#include "host-service/api/event_stream.h"
#include "host-service/api/guard.h"
#include "host-service/api/refusal.h"
#include "host-service/api/tls_listener.h"
#include "host-service/catalogue/idempotency.h"
#include "host-service/catalogue/operations.h"

#define UNFINISHED_MAX 1000
#define IDENTITY_MAX   65536u

/* What guests asked for themselves does not count: it has its own bound (push/upgrade_request.h), and must
 * not lock operators out. */
gboolean api_check_room(Api *api, GError **error)
{
        gint64 open = catalogue_operation_count_open(api->catalogue, NULL);

        if (open < 0) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_IO, "the catalogue cannot be read");
                return FALSE;
        }
        if (open >= UNFINISHED_MAX) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "%" G_GINT64_FORMAT
                            " operations are not finished yet; wait for some of them or cancel them",
                            open);
                return FALSE;
        }
        return TRUE;
}

static void refuse(SoupServerMessage *msg, guint status, MoultError code, const char *format, ...)
        G_GNUC_PRINTF(4, 5);
static void refuse(SoupServerMessage *msg, guint status, MoultError code, const char *format, ...)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(JsonObject) answer = NULL;
        va_list ap;

        va_start(ap, format);
        error = g_error_new_valist(MOULT_ERROR, (gint)code, format, ap);
        va_end(ap);
        answer = call_error_json(error);
        call_write(msg, status, answer);
}

/* --- frame: how much body we take */

/* What is known of a request before it is a call; belongs to its message. */
struct request {
        gsize taken; /* bytes of the body */
        gint64 began_us;
        const struct api_route *route; /* NULL: none of ours */
};

static struct request *request_of(SoupServerMessage *msg)
{
        return g_object_get_data(G_OBJECT(msg), "moult-request");
}

static void on_chunk(SoupServerMessage *msg, GBytes *chunk, gpointer user)
{
        struct request *r = user;

        r->taken += g_bytes_get_size(chunk);
        if (r->taken > API_BODY_MAX)
                soup_message_body_set_accumulate(soup_server_message_get_request_body(msg), FALSE);
}

static void on_headers(SoupServer *server, SoupServerMessage *msg, const char *path, GHashTable *query,
                       gpointer user)
{
        Api *api = user;
        struct request *r = g_new0(struct request, 1);

        r->began_us = host_monotonic_us(api->env);
        g_object_set_data_full(G_OBJECT(msg), "moult-request", r, g_free);
        if (soup_message_headers_get_content_length(soup_server_message_get_request_headers(msg)) >
            API_BODY_MAX) {
                r->taken = API_BODY_MAX + 1;
                soup_message_body_set_accumulate(soup_server_message_get_request_body(msg), FALSE);
        }
        g_signal_connect(msg, "got-chunk", G_CALLBACK(on_chunk), r);
}

/* Answered to its last byte, or cut off. */
static void on_over(SoupServer *server, SoupServerMessage *msg, gpointer user)
{
        Api *api = user;
        const struct request *r = request_of(msg);
        SoupMessageHeaders *headers = soup_server_message_get_response_headers(msg);
        gboolean is_stream =
                g_strcmp0(soup_message_headers_get_content_type(headers, NULL), "text/event-stream") == 0;

        if (!r || !api->config.metrics)
                return;
        metrics_request(api->config.metrics, soup_server_message_get_method(msg),
                        r->route ? r->route->pattern : NULL, soup_server_message_get_status(msg),
                        is_stream ? -1 : host_monotonic_us(api->env) - r->began_us);
}

/* --- content */

/* Names and values of a query string; NULL if it is malformed or names something twice. */
static GHashTable *parse_query(const char *query)
{
        g_autoptr(GHashTable) table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        g_auto(GStrv) pairs = g_strsplit(query ? query : "", "&", -1);

        for (GStrv p = pairs; *p; p++) {
                char *equals = strchr(*p, '=');
                g_autofree char *name = NULL, *value = NULL;

                if (**p == '\0')
                        continue;
                if (equals)
                        *equals = '\0';
                name = g_uri_unescape_string(*p, NULL);
                value = g_uri_unescape_string(equals ? equals + 1 : "true", NULL);
                if (!name || !value || !g_utf8_validate(name, -1, NULL) ||
                    !g_utf8_validate(value, -1, NULL) || g_hash_table_contains(table, name))
                        return NULL;
                g_hash_table_insert(table, g_steal_pointer(&name), g_steal_pointer(&value));
        }
        return g_steal_pointer(&table);
}

/* NULL and call->body set, or why not (owned by the caller). */
static char *parse_body(struct api_call *call, const char *text, gsize len)
{
        g_autoptr(JsonParser) parser = json_parser_new_immutable();
        g_autoptr(GError) error = NULL;
        const char *why;
        JsonNode *root;

        if (len == 0) {
                call->body = json_object_new();
                return NULL;
        }
        why = json_text_refusal(text, len);
        if (why)
                return g_strdup(why);
        if (!json_parser_load_from_data(parser, text, (gssize)len, &error))
                return g_strdup_printf("the body is not JSON: %s", error->message);
        root = json_parser_get_root(parser);
        if (!root || !JSON_NODE_HOLDS_OBJECT(root))
                return g_strdup("the body must be a JSON object");
        call->body = json_object_ref(json_node_get_object(root));
        return NULL;
}

static char *content_refusal(struct api_call *call, GBytes *body)
{
        const struct api_route *r = call->route;
        gboolean has_body = g_str_equal(r->method, "POST");
        gsize len = g_bytes_get_size(body);
        char *why;

        for (guint i = 0; i < API_PARAMS_MAX && call->params[i]; i++) {
                const char *reason = r->param_refusal[i](call->params[i]);

                if (reason)
                        return g_strdup_printf("a name in the path %s", reason);
        }
        if (!call->query)
                return g_strdup("the query string is malformed, or names a parameter twice");
        why = fields_query_refusal(call->query, r->query);
        if (why || (!has_body && len == 0))
                return why;
        if (!has_body)
                return g_strdup_printf("%s takes no body here", r->method);
        why = parse_body(call, g_bytes_get_data(body, NULL), len);
        if (!why)
                why = fields_refusal(call->body, r->body);
        if (!why && r->refusal)
                why = r->refusal(call->body);
        return why;
}

/* --- acting */

static void act(struct api_call *call)
{
        g_autoptr(GError) error = NULL;

        if (!call->route->act(call, &error))
                call_fail(call, error);
}

static char *hash_request(const struct api_call *call, const char *raw_path, GBytes *body)
{
        g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);

        g_checksum_update(sum, (const guchar *)call->route->method, -1);
        g_checksum_update(sum, (const guchar *)" ", 1);
        g_checksum_update(sum, (const guchar *)raw_path, -1);
        g_checksum_update(sum, (const guchar *)"\n", 1);
        g_checksum_update(sum, g_bytes_get_data(body, NULL), (gssize)g_bytes_get_size(body));
        return g_strdup(g_checksum_get_string(sum));
}

/* TRUE if @key was used before: the call is answered. */
static gboolean replay(struct api_call *call, const char *key, const char *hash)
{
        g_autoptr(GError) error = NULL;
        IdempotencyRecord *old = catalogue_idempotency_get(call->api->catalogue, key, &error);
        g_autoptr(JsonNode) node = NULL;

        if (!old) {
                if (g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                        return FALSE;
                call_fail(call, error);
                return TRUE;
        }
        if (!g_str_equal(old->request_hash, hash)) {
                error = g_error_new(
                        MOULT_ERROR, MOULT_ERROR_REFUSED,
                        "the Idempotency-Key \"%s\" was used for another request; nothing was done: use a "
                        "new key for a new request",
                        key);
                call_fail(call, error);
        } else {
                node = json_from_string(old->response, NULL);
                soup_message_headers_replace(soup_server_message_get_response_headers(call->msg),
                                             "Idempotency-Replayed", "true");
                call_answer(call, old->status, json_node_dup_object(node));
        }
        idempotency_record_free(old);
        return TRUE;
}

/* The change and the answer kept for its key, as one transaction. */
static void act_post(struct api_call *call, const char *key, const char *hash)
{
        Catalogue *c = call->api->catalogue;
        g_autoptr(GError) error = NULL;

        if (key && replay(call, key, hash))
                return;
        if (!catalogue_begin(c, &error)) {
                call_fail(call, error);
                return;
        }
        act(call);
        g_assert(!call->later);
        if (call->status < 300 && key) {
                g_autofree char *text =
                        json_object_text(json_object_ref(call->kept ? call->kept : call->answer));

                if (!catalogue_idempotency_put(c, key, hash, call->status, text, &error))
                        call_fail(call, error);
        }
        if (call->status >= 300)
                catalogue_rollback(c);
        else if (!catalogue_commit(c, &error))
                call_fail(call, error);
}

static void dispatch(struct api_call *call, const char *raw_path, GBytes *body)
{
        const char *key = soup_message_headers_get_one(soup_server_message_get_request_headers(call->msg),
                                                       "Idempotency-Key");
        g_autofree char *why = content_refusal(call, body), *hash = NULL;
        g_autoptr(GError) error = NULL;

        if (!why && key && idempotency_key_refusal(key))
                why = g_strdup_printf("the Idempotency-Key %s", idempotency_key_refusal(key));
        if (why) {
                refuse(call->msg, SOUP_STATUS_BAD_REQUEST, MOULT_ERROR_MALFORMED, "%s", why);
                call_free(call);
                return;
        }
        if (!audit_asked(call, &error)) {
                call_fail(call, error);
        } else if (g_str_equal(call->route->method, "POST") && !call->route->asks) {
                hash = hash_request(call, raw_path, body);
                act_post(call, key, hash);
        } else {
                act(call);
        }
        if (call->later)
                return;
        if (call->changed_vm && call->status < 300)
                call->api->guests->ops->vm_changed(call->api->guests->self, call->changed_vm);
        if (call->token_revoked && call->status < 300 && call->api->tls)
                api_peers_shut(api_tls_listener_peers(call->api->tls));
        audit_answered(call);
        call_write_answer(call);
        call_free(call);
}

static gboolean is_json(SoupServerMessage *msg)
{
        const char *type =
                soup_message_headers_get_content_type(soup_server_message_get_request_headers(msg), NULL);

        return g_strcmp0(type, "application/json") == 0;
}

/* A copy. */
static struct api_caller caller_of(Api *api, SoupServerMessage *msg)
{
        const struct api_caller *c = api_peers_caller(api_connections_peers(api->connections), msg);

        if (!c && api->tls)
                c = api_peers_caller(api_tls_listener_peers(api->tls), msg);

        return c ? api_caller_copy(c) : (struct api_caller){0};
}

/* FALSE: refused, and answered. */
static gboolean admit(Api *api, SoupServerMessage *msg, const struct api_route *route,
                      struct api_caller *caller)
{
        const char *authorization =
                soup_message_headers_get_one(soup_server_message_get_request_headers(msg), "Authorization");
        g_autoptr(GError) error = NULL;
        g_autoptr(JsonObject) answer = NULL;
        guint status = api_guard_admit(api->guard, route, authorization, caller, &error);
        SoupMessageHeaders *headers = soup_server_message_get_response_headers(msg);

        if (!status)
                return TRUE;
        if (status == SOUP_STATUS_UNAUTHORIZED)
                soup_message_headers_replace(headers, "WWW-Authenticate", "Bearer realm=\"moultd\"");
        if (status == API_STATUS_TOO_MANY)
                soup_message_headers_replace(headers, "Retry-After", "5");
        else
                audit_denied(api, caller, soup_server_message_get_method(msg),
                             g_uri_get_path(soup_server_message_get_uri(msg)), status, error);
        answer = call_error_json(error);
        call_write(msg, status, answer);
        return FALSE;
}

static void on_request(SoupServer *server, SoupServerMessage *msg, const char *path, GHashTable *unused,
                       gpointer user)
{
        Api *api = user;
        const char *method = soup_server_message_get_method(msg);
        GUri *uri = soup_server_message_get_uri(msg);
        const char *raw_path = g_uri_get_path(uri);
        struct request *request = request_of(msg);
        g_autofree char *allow = NULL;
        g_autoptr(GBytes) body = NULL;
        char *params[API_PARAMS_MAX] = {NULL};
        const struct api_route *route = api_route_find(method, raw_path, params, &allow);
        struct api_caller caller;
        struct api_call *call;

        request->route = route;
        caller = caller_of(api, msg);
        if (!admit(api, msg, route, &caller)) {
                api_caller_clear(&caller);
                for (guint i = 0; i < API_PARAMS_MAX; i++)
                        g_free(params[i]);
                return;
        }
        if (!route)
                api_caller_clear(&caller);
        if (!route && allow) {
                soup_message_headers_replace(soup_server_message_get_response_headers(msg), "Allow", allow);
                refuse(msg, SOUP_STATUS_METHOD_NOT_ALLOWED, MOULT_ERROR_UNSUPPORTED,
                       "this path takes only %s; see GET /v1/openapi.json", allow);
                return;
        }
        if (!route) {
                refuse(msg, SOUP_STATUS_NOT_FOUND, MOULT_ERROR_NOT_FOUND,
                       "there is no such path here; see GET /v1/openapi.json");
                return;
        }
        call = g_new0(struct api_call, 1);
        call->api = api;
        call->route = route;
        call->msg = msg;
        call->caller = caller;
        memcpy(call->params, params, sizeof params);
        call->query = parse_query(g_uri_get_query(uri));
        if (request->taken > API_BODY_MAX) {
                refuse(msg, SOUP_STATUS_REQUEST_ENTITY_TOO_LARGE, MOULT_ERROR_REFUSED,
                       "the body is larger than %u bytes", API_BODY_MAX);
                call_free(call);
                return;
        }
        body = soup_message_body_flatten(soup_server_message_get_request_body(msg));
        if (g_bytes_get_size(body) > 0 && !is_json(msg)) {
                refuse(msg, SOUP_STATUS_UNSUPPORTED_MEDIA_TYPE, MOULT_ERROR_UNSUPPORTED,
                       "the body must be JSON: say Content-Type: application/json");
                call_free(call);
                return;
        }
        dispatch(call, raw_path, body);
}

static gboolean listen_tls(Api *api, GError **error)
{
        g_autoptr(GBytes) pem = NULL;
        g_autofree char *text = NULL;

        if (!api->config.listen)
                return TRUE;
        pem = api->env->disk->read_file(api->env->self, "identity.pem", IDENTITY_MAX, error);
        if (!pem)
                return FALSE;
        text = g_strndup(g_bytes_get_data(pem, NULL), g_bytes_get_size(pem));
        api->tls = api_tls_listener_new(api->env, api->server, api->config.listen, text, error);
        OPENSSL_cleanse(text, strlen(text));
        return api->tls != NULL;
}

Api *api_new(const struct host_env *env, Catalogue *c, Jobs *jobs, Releases *releases,
             const struct guest_view *guests, const struct api_config *config, GError **error)
{
        g_autoptr(Api) api = g_new0(Api, 1);

        api->env = env;
        api->catalogue = c;
        api->jobs = jobs;
        api->releases = releases;
        api->guests = guests;
        api->config = *config;
        api->started_us = host_monotonic_us(env);
        api->calls = g_hash_table_new(g_direct_hash, g_direct_equal);
        api->server = g_object_new(SOUP_TYPE_SERVER, "raw-paths", TRUE, "server-header",
                                   "moultd/" MOULT_VERSION, NULL);
        api->streams = api_streams_new(env, c);
        api->guard = api_guard_new(env, c);
        soup_server_add_early_handler(api->server, NULL, on_headers, api, NULL);
        soup_server_add_handler(api->server, NULL, on_request, api, NULL);
        g_signal_connect(api->server, "request-finished", G_CALLBACK(on_over), api);
        g_signal_connect(api->server, "request-aborted", G_CALLBACK(on_over), api);
        /* Whoever finds the socket finds the other door open too. */
        if (!listen_tls(api, error))
                return NULL;
        api->connections = api_connections_new(api->server, config->socket, config->socket_group, error);
        if (!api->connections)
                return NULL;
        return g_steal_pointer(&api);
}

void api_free(Api *api)
{
        GHashTableIter iter;
        gpointer key;

        if (!api)
                return;
        g_clear_pointer(&api->tls, api_tls_listener_free);
        g_clear_pointer(&api->connections, api_connections_free);
        g_clear_pointer(&api->guard, api_guard_free);
        g_clear_pointer(&api->streams, api_streams_free);
        /* Those that answer later still will: they find nobody to tell. */
        g_hash_table_iter_init(&iter, api->calls);
        while (g_hash_table_iter_next(&iter, &key, NULL))
                ((struct api_call *)key)->api = NULL;
        g_hash_table_unref(api->calls);
        g_signal_handlers_disconnect_by_data(api->server, api);
        soup_server_disconnect(api->server);
        g_object_unref(api->server);
        g_free(api);
}
