/* test_proto_tls_ciphers.c - the guest's CPU decides which cipher suite a connection gets. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <openssl/ssl.h>

#include "proto/tls_ciphers.h"

static SSL *new_end(gboolean has_aes_gcm, gboolean server)
{
        SSL_CTX *ctx = SSL_CTX_new(TLS_method());
        cr_assert(SSL_CTX_set_ciphersuites(ctx, tls_ciphersuites(has_aes_gcm)) == 1);
        if (server) {
                EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
                X509 *cert = X509_new();
                X509_gmtime_adj(X509_getm_notBefore(cert), 0);
                X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
                X509_set_pubkey(cert, key);
                X509_sign(cert, key, NULL);
                cr_assert(SSL_CTX_use_certificate(ctx, cert) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1);
                X509_free(cert);
                EVP_PKEY_free(key);
        }
        SSL *ssl = SSL_new(ctx);
        SSL_CTX_free(ctx);
        return ssl;
}

/* The suite that two ends agree on, in memory. */
static const char *agreed(gboolean client_has_aes, gboolean server_has_aes)
{
        SSL *client = new_end(client_has_aes, FALSE), *server = new_end(server_has_aes, TRUE);
        BIO *a, *b;
        cr_assert(BIO_new_bio_pair(&a, 65536, &b, 65536) == 1);
        SSL_set_bio(client, a, a);
        SSL_set_bio(server, b, b);
        SSL_set_connect_state(client);
        SSL_set_accept_state(server);
        for (int i = 0; i < 10 && !(SSL_is_init_finished(client) && SSL_is_init_finished(server)); i++) {
                SSL_do_handshake(client);
                SSL_do_handshake(server);
        }
        cr_assert(SSL_is_init_finished(client) && SSL_is_init_finished(server));
        const char *name = SSL_CIPHER_get_name(SSL_get_current_cipher(client)); /* static */
        SSL_free(client);
        SSL_free(server);
        return name;
}

Test(tls_ciphers, a_guest_without_aes_gets_chacha20)
{
        cr_assert_str_eq(agreed(FALSE, TRUE), "TLS_CHACHA20_POLY1305_SHA256");
        cr_assert_str_eq(agreed(FALSE, FALSE), "TLS_CHACHA20_POLY1305_SHA256");
}

Test(tls_ciphers, a_guest_with_aes_gets_aes)
{
        cr_assert_str_eq(agreed(TRUE, TRUE), "TLS_AES_256_GCM_SHA384");
        cr_assert_str_eq(agreed(TRUE, FALSE), "TLS_AES_256_GCM_SHA384");
}

Test(tls_ciphers, the_cpu_is_asked)
{
        gboolean first = tls_cpu_has_aes_gcm();
        g_autofree char *info = NULL;

        if (!g_file_get_contents("/proc/cpuinfo", &info, NULL, NULL))
                cr_skip_test("there is no /proc/cpuinfo");
#if defined(__x86_64__)
        g_auto(GStrv) words = g_strsplit_set(info, " \n\t", -1);
        cr_assert_eq(first, g_strv_contains((const char *const *)words, "aes") &&
                                    g_strv_contains((const char *const *)words, "pclmulqdq"));
#else
        cr_assert_eq(first, tls_cpu_has_aes_gcm());
#endif
}
