/* common/libcrypto.h - how our programs start libcrypto. */
#pragma once

/* Called first in main(), before anything uses libcrypto.
 *
 * libcrypto must not clean up at exit (OPENSSL_init_crypto(3), OPENSSL_INIT_NO_ATEXIT): threads of GLib's
 * pools live on for seconds after their last job, nobody can join them, and one that ends (or still computes)
 * while exit() runs would find its thread-local state's key deleted and its algorithms freed. The kernel
 * takes the memory back anyway. */
void libcrypto_start(void);
