/* shm/keys.h - Ed25519 keys: signing releases, and the directory of keys that a reader trusts.
 *
 * Files are PEM as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them. A trust
 * directory holds *.pub files; others are ignored. An unreadable or malformed *.pub is an error, not a silent
 * gap. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/digest.h"

#define KEY_SIGNATURE_SIZE 64

typedef struct SigningKey SigningKey;
SigningKey *signing_key_load(const char *path, GError **error);
void signing_key_free(SigningKey *k);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SigningKey, signing_key_free)
/* Creates NAME.key (mode 0600, never overwritten) and NAME.pub. */
gboolean signing_key_create(const char *key_path, const char *pub_path, GError **error);
void signing_key_id(const SigningKey *k, uint8_t ret[static DIGEST_SIZE]);
gboolean signing_key_sign(const SigningKey *k, const void *data, size_t len,
                          uint8_t ret[static KEY_SIGNATURE_SIZE], GError **error);

typedef struct TrustStore TrustStore;
TrustStore *trust_store_load(const char *dir, GError **error);
void trust_store_free(TrustStore *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TrustStore, trust_store_free)
unsigned trust_store_count(const TrustStore *t);
/* The id of key @i of trust_store_count(): SHA-256 of the raw public key. Owned by @t. */
const uint8_t *trust_store_id(const TrustStore *t, unsigned i);
bool trust_store_has(const TrustStore *t, const uint8_t key_id[static DIGEST_SIZE]);
/* True if @sig over @data was made by the trusted key with this id. */
bool trust_store_verify(const TrustStore *t, const uint8_t key_id[static DIGEST_SIZE], const void *data,
                        size_t len, const uint8_t sig[static KEY_SIGNATURE_SIZE]);
