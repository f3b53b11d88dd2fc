/* host-service/audit_log.c - a file of JSON lines that only grows. */
#include "host-service/audit_log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/catalogue/json.h"

struct AuditLog {
        char *path;
        int fd;
        gboolean torn; /* the file does not end with a line break */
};

static gboolean ends_torn(int fd)
{
        struct stat st;
        char last = '\n';

        return fstat(fd, &st) == 0 && st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) == 1 &&
               last != '\n';
}

static gboolean open_file(AuditLog *a, GError **error)
{
        /* Read as well: to see how it ends. */
        scoped_fd int fd =
                open(a->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return moult_error_errno(error, errno, "opening the audit log %s", a->path);
        if (!S_ISREG(st.st_mode)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "the audit log %s is no regular file",
                            a->path);
                return FALSE;
        }
        scoped_fd_close(&a->fd);
        a->torn = ends_torn(fd);
        a->fd = g_steal_fd(&fd);
        return TRUE;
}

AuditLog *audit_log_new(const char *path, GError **error)
{
        g_autoptr(AuditLog) a = g_new0(AuditLog, 1);

        a->fd = -1;
        a->path = g_canonicalize_filename(path, NULL);
        return open_file(a, error) ? g_steal_pointer(&a) : NULL;
}

void audit_log_free(AuditLog *a)
{
        if (!a)
                return;
        scoped_fd_close(&a->fd);
        g_free(a->path);
        g_free(a);
}

const char *audit_log_path(const AuditLog *a)
{
        return a->path;
}

static gboolean was_moved(const AuditLog *a)
{
        struct stat ours, there;

        return fstat(a->fd, &ours) < 0 || lstat(a->path, &there) < 0 || ours.st_ino != there.st_ino ||
               ours.st_dev != there.st_dev;
}

gboolean audit_log_write(AuditLog *a, JsonObject *line, gboolean durable, GError **error)
{
        g_autofree char *text = json_object_text(line);
        g_autoptr(GString) out = g_string_new(NULL);
        gsize done = 0;

        if (was_moved(a) && !open_file(a, error))
                return FALSE;
        if (a->torn)
                g_string_append_c(out, '\n');
        g_string_append(out, text);
        g_string_append_c(out, '\n');
        while (done < out->len) {
                ssize_t n = write(a->fd, out->str + done, out->len - done);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        int e = errno;

                        a->torn = a->torn || done > 0;
                        return moult_error_errno(error, e, "writing to the audit log %s", a->path);
                }
                done += (gsize)n;
        }
        a->torn = FALSE;
        if (durable && fdatasync(a->fd) < 0)
                return moult_error_errno(error, errno, "syncing the audit log %s", a->path);
        return TRUE;
}

char *audit_log_problem(AuditLog *a)
{
        g_autoptr(GError) error = NULL;
        struct statvfs st;

        if (was_moved(a) && !open_file(a, &error))
                return g_strdup(error->message);
        if (fstatvfs(a->fd, &st) == 0 && st.f_bavail == 0)
                return g_strdup_printf("the disk of the audit log %s is full", a->path);
        return NULL;
}
