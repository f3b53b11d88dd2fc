/* proto/tls_identity.c - who we are on the network: one key pair and a self-signed certificate, made at first
 * use. */
#include "proto/tls_identity.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <string.h>
#include <sys/stat.h>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/fd.h"

#define FILE_NAME "identity.pem"
#define FILE_MAX  65536u
#define CN_MAX    64u /* ub-common-name, RFC 5280 */

struct TlsIdentity {
        EVP_PKEY *key;
        X509 *cert;
        uint8_t fingerprint[DIGEST_SIZE];
};

G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIO, BIO_free_all)

gboolean tls_error_take(GError **error, const char *what)
{
        unsigned long code = ERR_peek_last_error();
        const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

        g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "%s: %s", what, reason ? reason : "unknown reason");
        ERR_clear_error();
        return FALSE;
}

gboolean tls_fingerprint(const X509 *cert, uint8_t ret[static DIGEST_SIZE])
{
        const EVP_PKEY *key = X509_get0_pubkey(cert);
        unsigned char *der = NULL;
        int len;

        if (!key || EVP_PKEY_get_id(key) != EVP_PKEY_ED25519)
                return FALSE;
        len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
        if (len <= 0)
                return FALSE;
        SHA256(der, (size_t)len, ret);
        OPENSSL_free(der);
        return TRUE;
}

void tls_identity_free(TlsIdentity *id)
{
        if (!id)
                return;
        EVP_PKEY_free(id->key);
        X509_free(id->cert);
        g_free(id);
}

const uint8_t *tls_identity_fingerprint(const TlsIdentity *id)
{
        return id->fingerprint;
}

gboolean tls_identity_use(const TlsIdentity *id, SSL_CTX *ctx, GError **error)
{
        if (SSL_CTX_use_certificate(ctx, id->cert) != 1 || SSL_CTX_use_PrivateKey(ctx, id->key) != 1)
                return tls_error_take(error, "using our certificate");
        return TRUE;
}

/* No dates that anyone could get wrong (clocks of VMs are): nobody looks at them, the pin is what counts. */
static gboolean fill_certificate(X509 *cert, EVP_PKEY *key, const char *common_name)
{
        g_autofree char *name = g_strndup(common_name, CN_MAX);
        X509_NAME *subject = X509_get_subject_name(cert);
        unsigned char serial[8];
        guint64 number;

        if (RAND_bytes(serial, sizeof serial) != 1)
                return FALSE;
        memcpy(&number, serial, sizeof number);
        return X509_set_version(cert, X509_VERSION_3) == 1 &&
               ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), (number >> 1) | 1) == 1 &&
               ASN1_TIME_set_string_X509(X509_getm_notBefore(cert), "19700101000000Z") == 1 &&
               ASN1_TIME_set_string_X509(X509_getm_notAfter(cert), "99991231235959Z") == 1 &&
               X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1,
                                          0) == 1 &&
               X509_set_issuer_name(cert, subject) == 1 && X509_set_pubkey(cert, key) == 1 &&
               X509_sign(cert, key, NULL) > 0;
}

static TlsIdentity *make(const char *common_name, GError **error)
{
        g_autoptr(TlsIdentity) id = g_new0(TlsIdentity, 1);

        id->key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        id->cert = X509_new();
        if (!id->key || !id->cert || !fill_certificate(id->cert, id->key, common_name) ||
            !tls_fingerprint(id->cert, id->fingerprint)) {
                tls_error_take(error, "making a key and certificate");
                return NULL;
        }
        return g_steal_pointer(&id);
}

static gboolean store(const TlsIdentity *id, int dir_fd, GError **error)
{
        g_autoptr(BIO) pem = BIO_new(BIO_s_secmem());
        char *data;
        long len;

        if (!pem || PEM_write_bio_PKCS8PrivateKey(pem, id->key, NULL, NULL, 0, NULL, NULL) != 1 ||
            PEM_write_bio_X509(pem, id->cert) != 1)
                return tls_error_take(error, "writing our key as PEM");
        len = BIO_get_mem_data(pem, &data);
        return atomic_file_write_at(dir_fd, FILE_NAME, data, (size_t)len, 0600, error);
}

/* An encrypted key is refused; without this libcrypto would ask for a password on the terminal. */
static int no_password(char *buf, int size, int rwflag, void *user)
{
        return -1;
}

static TlsIdentity *parse(GBytes *pem, GError **error)
{
        g_autoptr(TlsIdentity) id = g_new0(TlsIdentity, 1);
        g_autoptr(BIO) key = NULL, cert = NULL;
        gsize len;
        const void *data = g_bytes_get_data(pem, &len);

        key = BIO_new_mem_buf(data, (int)len);
        cert = BIO_new_mem_buf(data, (int)len);
        if (key)
                id->key = PEM_read_bio_PrivateKey(key, NULL, no_password, NULL);
        if (cert)
                id->cert = PEM_read_bio_X509(cert, NULL, no_password, NULL);
        if (!id->key || !id->cert || X509_check_private_key(id->cert, id->key) != 1 ||
            !tls_fingerprint(id->cert, id->fingerprint)) {
                ERR_clear_error();
                g_set_error_literal(
                        error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                        "it does not hold an Ed25519 key and the certificate that fits it; restore it, or "
                        "remove it to get a new identity (the other sides must then pin that)");
                return NULL;
        }
        return g_steal_pointer(&id);
}

static TlsIdentity *load_or_make(int dir_fd, const char *common_name, GError **error)
{
        g_autoptr(GBytes) pem = NULL;
        g_autoptr(TlsIdentity) id = NULL;
        struct stat st;

        if (fstatat(dir_fd, FILE_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0) {
                if (errno != ENOENT) {
                        moult_error_errno(error, errno, "looking for it");
                        return NULL;
                }
                id = make(common_name, error);
                return id && store(id, dir_fd, error) ? g_steal_pointer(&id) : NULL;
        }
        if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0) {
                g_set_error_literal(
                        error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                        "others than its owner may use it (or it is no plain file): chmod 600, or remove "
                        "it to get a new identity if the key may have leaked");
                return NULL;
        }
        pem = fd_read_file_at(dir_fd, FILE_NAME, FILE_MAX, error);
        return pem ? parse(pem, error) : NULL;
}

TlsIdentity *tls_identity_load(const char *dir, const char *common_name, GError **error)
{
        TlsIdentity *id;

        scoped_fd int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        /* Not before: on a file system that is frozen mkdir() waits also for what is there. */
        if (dir_fd < 0 && errno == ENOENT) {
                if (g_mkdir_with_parents(dir, 0700) < 0) {
                        moult_error_errno(error, errno, "creating %s", dir);
                        return NULL;
                }
                dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
        if (dir_fd < 0) {
                moult_error_errno(error, errno, "opening %s", dir);
                return NULL;
        }
        id = load_or_make(dir_fd, common_name, error);
        if (!id)
                g_prefix_error(error, "the TLS identity %s/%s: ", dir, FILE_NAME);
        return id;
}
