/* tests/unit/test_common_libcrypto.c - what a thread finds that outlives main(). A program of its own:
 * Criterion's libraries have started libcrypto before a test of it begins. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/libcrypto.h"

enum { USABLE = 0, GONE = 1, UNEXPECTED = 2 };

/* Registered before libcrypto is used, and so called after whatever libcrypto does at exit. */
static void look(void)
{
        _exit(OPENSSL_init_crypto(0, NULL) == 1 ? USABLE : GONE);
}

static int run_program(int start_ours)
{
        int status = 0;
        pid_t pid = fork();

        if (pid == 0) {
                atexit(look);
                if (start_ours)
                        libcrypto_start();
                EVP_PKEY_free(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")); /* what starts all of it */
                exit(UNEXPECTED);
        }
        return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : UNEXPECTED;
}

int main(void)
{
        int ours = run_program(1), theirs = run_program(0);

        printf("libcrypto at the end of exit(): %s; without libcrypto_start(): %s\n",
               ours == USABLE ? "usable" : "gone", theirs == GONE ? "gone" : "usable");
        if (theirs != GONE)
                printf("libcrypto has changed: libcrypto_start() may go\n");
        return ours == USABLE && theirs == GONE ? EXIT_SUCCESS : EXIT_FAILURE;
}
