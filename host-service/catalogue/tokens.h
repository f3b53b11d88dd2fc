/* host-service/catalogue/tokens.h - API tokens: who may come over the network, and what for.
 *
 * Only a digest of the secret is kept. A name is never given out twice, also after its token was revoked: the
 * audit log names tokens. */
#pragma once

#include "host-service/catalogue/catalogue.h"

#define TOKENS_MAX 1000

typedef struct token_record {
        char *name;  /* as VM names */
        char *scope; /* api/caller.h */
        gint64 created_us;
        gint64 expires_us; /* 0: never */
        gint64 revoked_us; /* 0: not */
} TokenRecord;
void token_record_free(TokenRecord *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TokenRecord, token_record_free)

/* created_us is set here. BUSY if there is, or was, one of that name, or TOKENS_MAX of them. */
gboolean catalogue_token_add(Catalogue *c, const TokenRecord *r, const char *secret, GError **error);
TokenRecord *catalogue_token_get(Catalogue *c, const char *name, GError **error);
/* The token with this secret, also one that is over; NOT_FOUND. */
TokenRecord *catalogue_token_by_secret(Catalogue *c, const char *secret, GError **error);
GPtrArray *catalogue_token_list(Catalogue *c, GError **error); /* by name */
/* From now on. WRONG_STATE if it was before. */
gboolean catalogue_token_revoke(Catalogue *c, const char *name, GError **error);
