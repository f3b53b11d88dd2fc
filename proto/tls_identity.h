/* proto/tls_identity.h - who we are on the network: one key pair and a self-signed certificate, made at first
 * use.
 *
 * Nobody signs anything: each side knows the other by the SHA-256 of its public key (SubjectPublicKeyInfo).
 * The first contact pins it, either over virtio-serial (the hypervisor vouches) or by a join token.
 * docs/decisions/0005-tls-pins.md. */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "common/digest.h"

struct ssl_ctx_st; /* SSL_CTX, X509: libssl stays out of this header */
struct x509_st;

typedef struct TlsIdentity TlsIdentity;
/* Loads DIR/identity.pem, or makes it and DIR (Ed25519, mode 0600, atomically). A file that is there and
 * cannot be used is an error, never overwritten: a new key would be a new identity. A file that others may
 * read is MOULT_ERROR_UNTRUSTED. */
TlsIdentity *tls_identity_load(const char *dir, const char *common_name, GError **error);
void tls_identity_free(TlsIdentity *id);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TlsIdentity, tls_identity_free)
/* DIGEST_SIZE bytes. */
const uint8_t *tls_identity_fingerprint(const TlsIdentity *id);

/* For transport_tls.c: presents this identity in handshakes of @ctx. */
gboolean tls_identity_use(const TlsIdentity *id, struct ssl_ctx_st *ctx, GError **error);
/* The fingerprint of a certificate's key; FALSE if the key is not Ed25519. */
gboolean tls_fingerprint(const struct x509_st *cert, uint8_t ret[static DIGEST_SIZE]);
/* Sets @error from what libcrypto or libssl has queued: "WHAT: reason". Empties its queue. Returns FALSE. */
gboolean tls_error_take(GError **error, const char *what);
