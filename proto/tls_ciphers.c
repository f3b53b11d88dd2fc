/* proto/tls_ciphers.c - the order of cipher suites.
 *
 * A guest's virtual CPU often lacks the AES instructions that the host's has: qemu64 and other compatible
 * models hide them, and emulation has none. AES-GCM in software then runs at an eighth of ChaCha20-Poly1305's
 * rate (21 against 170 MB/s, OpenSSL 3.0 in a qemu64 guest), so the side without AES asks for ChaCha20 first.
 * The agent is the client, and a server of OpenSSL follows the client's order: the guest, the slower side,
 * decides. */
#include "proto/tls_ciphers.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

gboolean tls_cpu_has_aes_gcm(void)
{
#if defined(__x86_64__) || defined(__i386__)
        __builtin_cpu_init();
        return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
        unsigned long caps = getauxval(AT_HWCAP);
        return (caps & HWCAP_AES) != 0 && (caps & HWCAP_PMULL) != 0;
#else
        return FALSE;
#endif
}

const char *tls_ciphersuites(gboolean has_aes_gcm)
{
        return has_aes_gcm ? "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
                           : "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384";
}
