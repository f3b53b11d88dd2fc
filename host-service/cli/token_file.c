/* host-service/cli/token_file.c - what proves who we are to a moultd on another host. */
#include "host-service/cli/token_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fd.h"
#include "host-service/cli/exit_code.h"

#define PREFIX   "moult-api1:"
#define FILE_MAX 4096

void token_file_free(TokenFile *t)
{
        if (!t)
                return;
        g_free(t->secret);
        g_free(t);
}

TokenFile *token_file_parse(const char *text, GError **error)
{
        g_autoptr(TokenFile) t = g_new0(TokenFile, 1);
        g_autofree char *line = g_strstrip(g_strdup(text));
        const char *hex = line + strlen(PREFIX), *secret = hex + 2 * DIGEST_SIZE + 1;

        if (g_str_has_prefix(line, PREFIX) && strlen(hex) > 2 * DIGEST_SIZE + 1 && secret[-1] == ':' &&
            bytes_from_hex(hex, t->fingerprint, DIGEST_SIZE) &&
            strspn(secret, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_") ==
                    strlen(secret)) {
                t->secret = g_strdup(secret);
                return g_steal_pointer(&t);
        }
        g_set_error(error, CLI_ERROR, CLI_ERROR_USAGE,
                    "it holds no API token (" PREFIX
                    "FINGERPRINT:SECRET); 'moult token new' on the host makes "
                    "one");
        return NULL;
}

static char *choose_path(const Cli *cli)
{
        const char *env = g_getenv("MOULT_TOKEN_FILE");

        if (cli->token_file)
                return g_strdup(cli->token_file);
        if (env && *env)
                return g_strdup(env);
        return g_build_filename(g_get_user_config_dir(), "moult", "token", NULL);
}

TokenFile *token_file_read(Cli *cli, GError **error)
{
        g_autofree char *path = choose_path(cli);
        scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        char text[FILE_MAX] = {0};
        struct stat st;
        TokenFile *t;

        if (fd < 0 || fstat(fd, &st) < 0 || read(fd, text, sizeof text - 1) < 0) {
                g_set_error(error, CLI_ERROR, CLI_ERROR_USAGE,
                            "a moultd on another host wants an API token: reading %s: %s; --token-file or "
                            "MOULT_TOKEN_FILE name another file",
                            path, g_strerror(errno));
                return NULL;
        }
        if (S_ISREG(st.st_mode) && (st.st_mode & 077) != 0) {
                g_set_error(
                        error, CLI_ERROR, CLI_ERROR_USAGE,
                        "the API token in %s can be read by others: chmod 600 it, and revoke the token if "
                        "somebody has",
                        path);
                return NULL;
        }
        t = token_file_parse(text, error);
        if (!t)
                g_prefix_error(error, "%s: ", path);
        return t;
}
