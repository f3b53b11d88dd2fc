/* host-service/s3_client.h - one request to an S3 service, and what came of it.
 *
 * libcurl signs (AWS signature version 4). One request is one attempt: who calls us decides about the next.
 * Connections are kept in a pool of handles. Nothing that a server says is passed on but the name of its
 * error: its messages may repeat what was signed. Calls block; several threads may have one under way. */
#pragma once

#include <curl/curl.h>

#include "host-service/object_store.h"

#define S3_ERROR_BODY_MAX 16384u

typedef struct S3Client S3Client;

/* One request and what came of it. */
struct s3_exchange {
        GByteArray *answer; /* the caller's */
        gsize max;          /* of the answer: at least S3_ERROR_BODY_MAX */
        gboolean too_long;
        const guint8 *body; /* of a PUT */
        gsize body_len, sent;
        GCancellable *cancellable;
        char tls_error[CURL_ERROR_SIZE];
        const char *copy_source;   /* of a PUT that copies, escaped; or NULL */
        long status;               /* of the answer, and: */
        gint64 date_s, modified_s; /* 0: it does not say */
};

/* @name is for errors. Errors as object_store_s3_new(). */
S3Client *s3_client_new(const struct s3_config *config, const char *name, GError **error);
void s3_client_free(S3Client *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(S3Client, s3_client_free)

/* @method is GET, HEAD, PUT or DELETE; @key for errors. *ret_found (or NULL): FALSE for a 404, which is no
 * error then. Errors as in object_store.h. */
gboolean s3_client_request(S3Client *s, const char *method, const char *url, const char *key,
                           struct s3_exchange *x, gboolean *ret_found, GError **error);
