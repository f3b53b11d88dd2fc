/* shm/keys.c - Ed25519 keys: signing releases, and the directory of keys that a reader trusts. */
#include "shm/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"

#define KEY_FILE_MAX     65536u
#define TRUSTED_KEYS_MAX 1024u
#define RAW_KEY_SIZE     32u

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY, EVP_PKEY_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY_CTX, EVP_PKEY_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_MD_CTX, EVP_MD_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIO, BIO_free_all)

struct SigningKey {
        EVP_PKEY *pkey;
        uint8_t id[DIGEST_SIZE];
};

struct trusted_key {
        uint8_t id[DIGEST_SIZE];
        EVP_PKEY *pkey;
};

struct TrustStore {
        GArray *keys; /* of struct trusted_key */
};

/* An encrypted key must not make a daemon ask a terminal for its passphrase. */
static int no_passphrase(char *buf, int size, int writing, void *user)
{
        return -1;
}

/* SHA-256 of the raw public key. */
static gboolean key_id(EVP_PKEY *pkey, uint8_t ret[static DIGEST_SIZE])
{
        uint8_t raw[RAW_KEY_SIZE];
        size_t len = sizeof raw;
        if (EVP_PKEY_get_id(pkey) != EVP_PKEY_ED25519)
                return FALSE;
        if (EVP_PKEY_get_raw_public_key(pkey, raw, &len) != 1 || len != sizeof raw)
                return FALSE;
        g_autoptr(Hasher) h = hasher_new();
        hasher_sha256(h, raw, sizeof raw, ret);
        return TRUE;
}

SigningKey *signing_key_load(const char *path, GError **error)
{
        g_autoptr(GBytes) text = fd_read_file_at(AT_FDCWD, path, KEY_FILE_MAX, error);
        if (text == NULL) {
                g_prefix_error(error, "loading a signing key: ");
                return NULL;
        }
        gsize len;
        const void *data = g_bytes_get_data(text, &len);
        g_autoptr(BIO) bio = BIO_new_mem_buf(data, (int)len);
        g_autoptr(EVP_PKEY) pkey = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
        ERR_clear_error();
        g_autoptr(SigningKey) k = g_new0(SigningKey, 1);
        if (pkey == NULL || !key_id(pkey, k->id)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "loading a signing key: %s is not an unencrypted Ed25519 private key in PEM; "
                            "`moult key new` makes one",
                            path);
                return NULL;
        }
        k->pkey = g_steal_pointer(&pkey);
        return g_steal_pointer(&k);
}

void signing_key_free(SigningKey *k)
{
        if (k == NULL)
                return;
        EVP_PKEY_free(k->pkey);
        g_free(k);
}

/* Writes what is in @bio to a file that must not exist. */
static gboolean write_new_file(const char *path, mode_t mode, BIO *bio, GError **error)
{
        char *data;
        long len = BIO_get_mem_data(bio, &data);
        scoped_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (fd < 0 && errno == EEXIST) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "creating a key: %s exists already and is left as it is", path);
                return FALSE;
        }
        if (fd < 0)
                return moult_error_errno(error, errno, "creating %s", path);
        gboolean ok = fd_write_all(fd, data, (size_t)len, path, error);
        if (ok && fsync(fd) < 0)
                ok = moult_error_errno(error, errno, "syncing %s", path);
        if (!ok)
                unlink(path);
        return ok;
}

gboolean signing_key_create(const char *key_path, const char *pub_path, GError **error)
{
        g_autoptr(EVP_PKEY_CTX) ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, NULL);
        g_autoptr(EVP_PKEY) pkey = NULL;
        g_autoptr(BIO) secret = BIO_new(BIO_s_secmem()); /* wiped when freed */
        g_autoptr(BIO) public = BIO_new(BIO_s_mem());
        if (ctx == NULL || EVP_PKEY_keygen_init(ctx) != 1 || EVP_PKEY_keygen(ctx, &pkey) != 1 ||
            PEM_write_bio_PKCS8PrivateKey(secret, pkey, NULL, NULL, 0, NULL, NULL) != 1 ||
            PEM_write_bio_PUBKEY(public, pkey) != 1) {
                ERR_clear_error();
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "creating a key: libcrypto failed");
                return FALSE;
        }
        if (!write_new_file(key_path, 0600, secret, error))
                return FALSE;
        if (!write_new_file(pub_path, 0644, public, error)) {
                unlink(key_path);
                return FALSE;
        }
        return TRUE;
}

void signing_key_id(const SigningKey *k, uint8_t ret[static DIGEST_SIZE])
{
        memcpy(ret, k->id, DIGEST_SIZE);
}

gboolean signing_key_sign(const SigningKey *k, const void *data, size_t len,
                          uint8_t ret[static KEY_SIGNATURE_SIZE], GError **error)
{
        g_autoptr(EVP_MD_CTX) ctx = EVP_MD_CTX_new();
        uint8_t sig[KEY_SIGNATURE_SIZE];
        size_t sig_len = sizeof sig;
        if (ctx == NULL || EVP_DigestSignInit(ctx, NULL, NULL, NULL, k->pkey) != 1 ||
            EVP_DigestSign(ctx, sig, &sig_len, data, len) != 1 || sig_len != sizeof sig) {
                ERR_clear_error();
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "signing: libcrypto failed");
                return FALSE;
        }
        memcpy(ret, sig, sizeof sig);
        return TRUE;
}

static void trusted_key_clear(gpointer key)
{
        EVP_PKEY_free(((struct trusted_key *)key)->pkey);
}

static gboolean trust_add_file(TrustStore *t, int dirfd, const char *dir, const char *name, GError **error)
{
        g_autoptr(GBytes) text = fd_read_file_at(dirfd, name, KEY_FILE_MAX, error);
        if (text == NULL)
                return FALSE;
        gsize len;
        const void *data = g_bytes_get_data(text, &len);
        g_autoptr(BIO) bio = BIO_new_mem_buf(data, (int)len);
        g_autoptr(EVP_PKEY) pkey = PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL);
        ERR_clear_error();
        struct trusted_key key = {0};
        if (pkey == NULL || !key_id(pkey, key.id)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "%s/%s is not an Ed25519 public key in PEM; repair or remove it", dir, name);
                return FALSE;
        }
        key.pkey = g_steal_pointer(&pkey);
        g_array_append_val(t->keys, key);
        return TRUE;
}

TrustStore *trust_store_load(const char *dir, GError **error)
{
        scoped_fd int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dirfd < 0) {
                moult_error_errno(error, errno, "loading trusted keys: opening %s", dir);
                return NULL;
        }
        g_autoptr(GDir) names = g_dir_open(dir, 0, error);
        if (names == NULL)
                return NULL;
        g_autoptr(TrustStore) t = g_new0(TrustStore, 1);
        t->keys = g_array_new(FALSE, FALSE, sizeof(struct trusted_key));
        g_array_set_clear_func(t->keys, trusted_key_clear);
        for (const char *name; (name = g_dir_read_name(names)) != NULL;) {
                if (!g_str_has_suffix(name, ".pub"))
                        continue;
                if (t->keys->len == TRUSTED_KEYS_MAX) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "loading trusted keys: %s holds more than %u", dir, TRUSTED_KEYS_MAX);
                        return NULL;
                }
                if (!trust_add_file(t, dirfd, dir, name, error)) {
                        g_prefix_error(error, "loading trusted keys: ");
                        return NULL;
                }
        }
        return g_steal_pointer(&t);
}

void trust_store_free(TrustStore *t)
{
        if (t == NULL)
                return;
        g_clear_pointer(&t->keys, g_array_unref);
        g_free(t);
}

unsigned trust_store_count(const TrustStore *t)
{
        return t->keys->len;
}

const uint8_t *trust_store_id(const TrustStore *t, unsigned i)
{
        g_assert(i < t->keys->len);
        return g_array_index(t->keys, struct trusted_key, i).id;
}

static const struct trusted_key *trust_find(const TrustStore *t, const uint8_t id[static DIGEST_SIZE])
{
        for (guint i = 0; i < t->keys->len; i++) {
                const struct trusted_key *k = &g_array_index(t->keys, struct trusted_key, i);
                if (memcmp(k->id, id, DIGEST_SIZE) == 0)
                        return k;
        }
        return NULL;
}

bool trust_store_has(const TrustStore *t, const uint8_t key_id[static DIGEST_SIZE])
{
        return trust_find(t, key_id) != NULL;
}

bool trust_store_verify(const TrustStore *t, const uint8_t key_id[static DIGEST_SIZE], const void *data,
                        size_t len, const uint8_t sig[static KEY_SIGNATURE_SIZE])
{
        const struct trusted_key *k = trust_find(t, key_id);
        if (k == NULL)
                return false;
        g_autoptr(EVP_MD_CTX) ctx = EVP_MD_CTX_new();
        bool good = ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, k->pkey) == 1 &&
                    EVP_DigestVerify(ctx, sig, KEY_SIGNATURE_SIZE, data, len) == 1;
        ERR_clear_error();
        return good;
}
