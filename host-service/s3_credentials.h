/* host-service/s3_credentials.h - who we are at an S3 service: from a file that only we can read, or from the
 * environment. Never logged. */
#pragma once

#include <glib.h>

typedef struct s3_credentials {
        char *access_key, *secret_key;
        char *session_token; /* or NULL */
} S3Credentials;
void s3_credentials_free(S3Credentials *c); /* and overwrites them */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(S3Credentials, s3_credentials_free)

/* @path: a file as the AWS tools have it, section [default]; NULL: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
 * and AWS_SESSION_TOKEN. UNTRUSTED: others can read or write the file; NOT_FOUND, MALFORMED. */
S3Credentials *s3_credentials_load(const char *path, GError **error);
