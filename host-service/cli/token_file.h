/* host-service/cli/token_file.h - what proves who we are to a moultd on another host: one line,
 * moult-api1:FINGERPRINT:SECRET, as 'moult token new' prints it. */
#pragma once

#include "common/digest.h"
#include "host-service/cli/cli.h"

typedef struct {
        guint8 fingerprint[DIGEST_SIZE]; /* SHA-256 of the key that the host must have */
        char *secret;
} TokenFile;

/* --token-file, else $MOULT_TOKEN_FILE, else moult/token in the user's configuration folder. Errors: USAGE:
 * there is none, others can read it, or it holds something else. */
TokenFile *token_file_read(Cli *cli, GError **error);
/* The same of its text; for tests. */
TokenFile *token_file_parse(const char *text, GError **error);
void token_file_free(TokenFile *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TokenFile, token_file_free)
