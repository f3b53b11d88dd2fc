/* common/static_program.c - nothing of the machine is loaded into a static program. */
#include "common/static_program.h"

#include <glib.h>
#include <nss.h>
#include <openssl/crypto.h>

void static_program_start(void)
{
        static const struct {
                const char *database, *services;
        } built_in[] = {{"hosts", "files dns"},
                        {"passwd", "files"},
                        {"group", "files"},
                        {"services", "files"},
                        {"protocols", "files"}};

        for (gsize i = 0; i < G_N_ELEMENTS(built_in); i++)
                if (__nss_configure_lookup(built_in[i].database, built_in[i].services) != 0)
                        g_error("name lookups cannot be bound to what the program has built in");
        if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL) != 1)
                g_error("libcrypto does not start: the program's file is damaged");
}
