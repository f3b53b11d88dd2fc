/* host-service/s3_credentials.c - reading access keys. */
#include "host-service/s3_credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"

#define FILE_MAX 65536u

static void forget(char *secret)
{
        if (secret)
                explicit_bzero(secret, strlen(secret));
        g_free(secret);
}

void s3_credentials_free(S3Credentials *c)
{
        if (!c)
                return;
        forget(c->access_key);
        forget(c->secret_key);
        forget(c->session_token);
        g_free(c);
}

static GBytes *read_guarded(const char *path, GError **error)
{
        scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        g_autofree char *data = NULL;
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0) {
                moult_error_errno(error, errno, "opening the S3 credentials %s", path);
                return NULL;
        }
        if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0 || (st.st_uid != geteuid() && st.st_uid != 0)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                            "the S3 credentials %s can be read by others (mode %04o): correct owner and mode "
                            "(chmod 0600), and change the key if somebody may have read it",
                            path, st.st_mode & 07777u);
                return NULL;
        }
        if (st.st_size > FILE_MAX) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "the S3 credentials %s are too long",
                            path);
                return NULL;
        }
        data = g_malloc((gsize)st.st_size + 1);
        if (!fd_pread_all(fd, data, (gsize)st.st_size, 0, path, error))
                return NULL;
        return g_bytes_new_take(g_steal_pointer(&data), (gsize)st.st_size);
}

static gboolean from_file(S3Credentials *c, const char *path, GError **error)
{
        g_autoptr(GBytes) data = read_guarded(path, error);
        g_autoptr(GKeyFile) file = g_key_file_new();
        gboolean ok;

        if (!data)
                return FALSE;
        /* GKeyFile's own messages may quote the line that it could not read: they are not passed on. */
        ok = g_key_file_load_from_bytes(file, data, G_KEY_FILE_NONE, NULL);
        if (ok) {
                c->access_key = g_key_file_get_string(file, "default", "aws_access_key_id", NULL);
                c->secret_key = g_key_file_get_string(file, "default", "aws_secret_access_key", NULL);
                c->session_token = g_key_file_get_string(file, "default", "aws_session_token", NULL);
        }
        if (c->access_key && c->secret_key)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                    "the S3 credentials %s need a section [default] with aws_access_key_id and "
                    "aws_secret_access_key",
                    path);
        return FALSE;
}

static gboolean from_environment(S3Credentials *c, GError **error)
{
        c->access_key = g_strdup(g_getenv("AWS_ACCESS_KEY_ID"));
        c->secret_key = g_strdup(g_getenv("AWS_SECRET_ACCESS_KEY"));
        c->session_token = g_strdup(g_getenv("AWS_SESSION_TOKEN"));
        if (c->access_key && c->secret_key)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                    "there are no S3 credentials: set s3-credentials to a file, or AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY in moultd's environment");
        return FALSE;
}

S3Credentials *s3_credentials_load(const char *path, GError **error)
{
        g_autoptr(S3Credentials) c = g_new0(S3Credentials, 1);

        if (!(path ? from_file(c, path, error) : from_environment(c, error)))
                return NULL;
        if (*c->access_key == '\0' || strpbrk(c->access_key, "\r\n") || *c->secret_key == '\0' ||
            (c->session_token && strpbrk(c->session_token, "\r\n"))) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "the S3 credentials are empty or hold a line break");
                return NULL;
        }
        return g_steal_pointer(&c);
}
