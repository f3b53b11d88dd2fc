/* common/libcrypto.c - how our programs start libcrypto. */
#include "common/libcrypto.h"

#include <glib.h>
#include <openssl/crypto.h>

void libcrypto_start(void)
{
        if (OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL) != 1)
                g_error("libcrypto does not start: its installation is broken");
}
