/* host-service/catalogue/idempotency.h - the answer that was given to a request with an Idempotency-Key. */
#pragma once

#include "host-service/catalogue/catalogue.h"

typedef struct idempotency_record {
        char *key;
        char *request_hash; /* SHA-256 (hex) of method, path and body */
        guint status;       /* HTTP */
        char *response;     /* JSON body */
        gint64 created_us;
} IdempotencyRecord;
void idempotency_record_free(IdempotencyRecord *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(IdempotencyRecord, idempotency_record_free)

/* Call it inside the transaction that makes the answer true. */
gboolean catalogue_idempotency_put(Catalogue *c, const char *key, const char *request_hash, guint status,
                                   const char *response, GError **error);
IdempotencyRecord *catalogue_idempotency_get(Catalogue *c, const char *key, GError **error);
/* Forgets keys older than @age_us. */
gboolean catalogue_idempotency_prune(Catalogue *c, gint64 age_us, GError **error);
