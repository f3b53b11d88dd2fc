/* proto/tls_ciphers.h - which TLS 1.3 cipher suites to offer, in which order. */
#pragma once

#include <glib.h>

/* TRUE if this CPU computes AES-GCM in hardware: AES and carry-less multiplication. */
gboolean tls_cpu_has_aes_gcm(void);

/* The list for SSL_CTX_set_ciphersuites(3); static. Both sides offer all three suites of RFC 8446 that
 * OpenSSL turns on by itself, so that any two of them agree; only the order differs. */
const char *tls_ciphersuites(gboolean has_aes_gcm);
