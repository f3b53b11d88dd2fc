/* host-service/cli/public_key.c - a key file of either kind, for showing. */
#include "host-service/cli/public_key.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "common/error.h"
#include "common/fd.h"
#include "shm/keys.h"

#define KEY_FILE_MAX  16384
#define ED25519_BYTES 32

static int no_passphrase(char *buf, int size, int writing, void *user)
{
        return -1; /* never asks on a terminal */
}

static EVP_PKEY *read_public(GBytes *pem)
{
        gsize len;
        const void *data = g_bytes_get_data(pem, &len);
        BIO *bio = BIO_new_mem_buf(data, (int)len);
        EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL) : NULL;

        BIO_free(bio);
        return key;
}

gboolean public_key_id_of_file(const char *path, uint8_t ret_id[static DIGEST_SIZE], bool *ret_private,
                               GError **error)
{
        g_autoptr(GBytes) pem = fd_read_file_at(AT_FDCWD, path, KEY_FILE_MAX, error);

        if (!pem)
                return FALSE;
        gsize len;
        const char *data = g_bytes_get_data(pem, &len);
        if (g_strstr_len(data, (gssize)len, "PRIVATE KEY")) {
                g_autoptr(SigningKey) key = signing_key_load(path, error);

                if (!key)
                        return FALSE;
                signing_key_id(key, ret_id);
                *ret_private = true;
                return TRUE;
        }
        EVP_PKEY *key = read_public(pem);
        uint8_t raw[ED25519_BYTES];
        size_t raw_len = sizeof raw;
        bool ok = key && EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 &&
                  EVP_PKEY_get_raw_public_key(key, raw, &raw_len) == 1 && raw_len == sizeof raw;
        EVP_PKEY_free(key);
        if (!ok) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "%s is not an Ed25519 key in PEM; 'moult key new NAME' makes a pair", path);
                return FALSE;
        }
        g_autoptr(Hasher) h = hasher_new();
        hasher_sha256(h, raw, sizeof raw, ret_id);
        *ret_private = false;
        return TRUE;
}
