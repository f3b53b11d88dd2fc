/* host-service/api/tokens.c - /v1/tokens: API tokens for those who come over the network. */
#include "host-service/catalogue/tokens.h"

#include "host-service/api/call.h"

#define SECRET_BYTES 24
#define TOKEN_PREFIX "moult-api1:"

static JsonObject *token_json(const struct host_env *env, const TokenRecord *r)
{
        JsonObject *o = json_object_new();
        gboolean expired = r->expires_us && r->expires_us <= host_wall_us(env);

        json_object_set_string_member(o, "name", r->name);
        json_object_set_string_member(o, "scope", r->scope);
        json_object_set_string_member(o, "state", r->revoked_us ? "revoked" : expired ? "expired" : "valid");
        json_object_set_time(o, "created", r->created_us);
        json_object_set_time(o, "expires", r->expires_us);
        json_object_set_time(o, "revoked", r->revoked_us);
        return o;
}

static gboolean answer_token(struct api_call *call, guint status, const char *name, const char *text,
                             GError **error)
{
        g_autoptr(TokenRecord) r = catalogue_token_get(call->api->catalogue, name, error);
        JsonObject *o;

        if (!r)
                return FALSE;
        o = json_object_new();
        json_object_set_object_member(o, "token", token_json(call->api->env, r));
        if (text) {
                call->kept = json_object_new();
                json_object_set_object_member(call->kept, "token", token_json(call->api->env, r));
                json_object_set_null_member(call->kept, "secret");
                json_object_set_string_member(o, "secret", text);
        }
        call_answer(call, status, o);
        return TRUE;
}

/* What a token file holds: whom its owner shall meet, and what proves the owner. */
static char *make_text(const Api *api, char **ret_secret)
{
        guint8 bits[SECRET_BYTES];
        char host[2 * DIGEST_SIZE + 1];
        GString *secret = g_string_new(NULL);

        host_random_fill(api->env, bits, sizeof bits);
        for (guint i = 0; i < sizeof bits; i++)
                g_string_append_printf(secret, "%02x", bits[i]);
        *ret_secret = g_string_free(secret, FALSE);
        digest_to_hex(api->config.tls_fingerprint, host);
        return g_strconcat(TOKEN_PREFIX, host, ":", *ret_secret, NULL);
}

gboolean api_tokens_add(struct api_call *call, GError **error)
{
        gint64 expires_s = json_object_get_int_member_with_default(call->body, "expires_s", 0);
        g_autofree char *secret = NULL, *text = make_text(call->api, &secret);
        TokenRecord r = {.name = (char *)json_object_get_string_member(call->body, "name"),
                         .scope = (char *)json_object_get_string_member(call->body, "scope")};

        if (expires_s > 0)
                r.expires_us = host_wall_us(call->api->env) + expires_s * G_USEC_PER_SEC;
        return catalogue_token_add(call->api->catalogue, &r, secret, error) &&
               answer_token(call, SOUP_STATUS_CREATED, r.name, text, error);
}

gboolean api_tokens_list(struct api_call *call, GError **error)
{
        g_autoptr(GPtrArray) list = catalogue_token_list(call->api->catalogue, error);
        JsonObject *o;
        JsonArray *a;

        if (!list)
                return FALSE;
        o = json_object_new();
        a = json_array_new();
        for (guint i = 0; i < list->len; i++)
                json_array_add_object_element(a, token_json(call->api->env, list->pdata[i]));
        json_object_set_array_member(o, "tokens", a);
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}

gboolean api_tokens_revoke(struct api_call *call, GError **error)
{
        if (!catalogue_token_revoke(call->api->catalogue, call->params[0], error) ||
            !answer_token(call, SOUP_STATUS_OK, call->params[0], NULL, error))
                return FALSE;
        call->token_revoked = TRUE;
        return TRUE;
}
