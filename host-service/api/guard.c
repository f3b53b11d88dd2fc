/* host-service/api/guard.c - who may ask for what. */
#include "host-service/api/guard.h"

#include <string.h>

#include "common/error.h"
#include "host-service/catalogue/tokens.h"
#include "host-service/guests/budget.h"

#define BEARER     "Bearer "
#define SECRET_MAX 128

/* Failures: 10 at once and one each 5 s from one address; 100 and 10 a second in all. */
#define FAILURE      10u
#define ADDRESS_RATE 2u
#define ADDRESS_MAX  (10u * FAILURE)
#define ALL_RATE     (10u * FAILURE)
#define ALL_MAX      (100u * FAILURE)
#define ADDRESSES    1024u

struct api_guard {
        const struct host_env *env;
        Catalogue *catalogue;
        GHashTable *addresses; /* text without port -> struct budget */
        struct budget all;
};

struct api_guard *api_guard_new(const struct host_env *env, Catalogue *c)
{
        struct api_guard *g = g_new0(struct api_guard, 1);

        g->env = env;
        g->catalogue = c;
        g->addresses = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        g->all = budget_new(ALL_RATE, ALL_MAX);
        return g;
}

void api_guard_free(struct api_guard *g)
{
        if (!g)
                return;
        g_hash_table_unref(g->addresses);
        g_free(g);
}

static gboolean may_fail(struct api_guard *g, const char *address)
{
        const char *colon = address ? strrchr(address, ':') : NULL;
        g_autofree char *host = g_strndup(address ? address : "", colon ? (gsize)(colon - address) : 0);
        struct budget *b = g_hash_table_lookup(g->addresses, host);
        gint64 now_us = host_monotonic_us(g->env);

        if (!b) {
                /* Only many at once fill it; the limit of all holds those. */
                if (g_hash_table_size(g->addresses) >= ADDRESSES)
                        g_hash_table_remove_all(g->addresses);
                b = g_new(struct budget, 1);
                *b = budget_new(ADDRESS_RATE, ADDRESS_MAX);
                g_hash_table_insert(g->addresses, g_steal_pointer(&host), b);
        }
        return budget_take(b, FAILURE, now_us) && budget_take(&g->all, FAILURE, now_us);
}

static guint fail(struct api_guard *g, const struct api_caller *caller, GError **error, const char *why)
{
        if (!may_fail(g, caller->address)) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                                    "too many requests without a valid token; wait a few seconds");
                return API_STATUS_TOO_MANY;
        }
        g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED, why);
        return SOUP_STATUS_UNAUTHORIZED;
}

/* Each text tells a holder of the secret what to do, and others nothing. */
static guint identify(struct api_guard *g, const char *authorization, struct api_caller *caller,
                      GError **error)
{
        g_autoptr(TokenRecord) token = NULL;
        g_autoptr(GError) why = NULL;
        const char *secret;

        if (!authorization || g_ascii_strncasecmp(authorization, BEARER, strlen(BEARER)) != 0)
                return fail(g, caller, error,
                            "an API token is needed: Authorization: Bearer SECRET; 'moult token new' on the "
                            "host makes one");
        secret = authorization + strlen(BEARER);
        if (strlen(secret) <= SECRET_MAX)
                token = catalogue_token_by_secret(g->catalogue, secret, &why);
        if (!token && why && !g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND)) {
                g_propagate_error(error, g_steal_pointer(&why));
                return SOUP_STATUS_INTERNAL_SERVER_ERROR;
        }
        if (!token)
                return fail(g, caller, error, "this API token is not known here");
        caller->token = g_strdup(token->name);
        if (token->revoked_us)
                return fail(g, caller, error, "this API token was revoked");
        if (token->expires_us && token->expires_us <= host_wall_us(g->env))
                return fail(g, caller, error,
                            "this API token has expired; 'moult token new' makes a new one");
        if (!api_scope_parse(token->scope, &caller->scope))
                return fail(g, caller, error, "this API token has a scope that this moultd does not know");
        return 0;
}

guint api_guard_admit(struct api_guard *g, const struct api_route *route, const char *authorization,
                      struct api_caller *caller, GError **error)
{
        ApiScope needed = route ? api_scope_needed(route->method, route->pattern) : API_SCOPE_READ;
        guint status = caller->network ? identify(g, authorization, caller, error) : 0;

        if (status)
                return status;
        if (caller->scope >= needed)
                return 0;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                    "this needs an API token with the scope \"%s\"; \"%s\" has \"%s\"",
                    api_scope_name(needed), caller->token ? caller->token : "it",
                    api_scope_name(caller->scope));
        return SOUP_STATUS_FORBIDDEN;
}
