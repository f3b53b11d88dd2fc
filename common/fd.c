/* common/fd.c - file descriptors that are owned, and loops around the calls that may do half their work. */
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"

void scoped_fd_close(int *fd)
{
        if (*fd < 0)
                return;
        int saved = errno;
        close(*fd);
        *fd = -1;
        errno = saved;
}

gboolean fd_write_all(int fd, const void *data, size_t len, const char *what, GError **error)
{
        const guint8 *p = data;
        while (len > 0) {
                ssize_t n = write(fd, p, len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return moult_error_errno(error, errno, "writing %s", what);
                p += n;
                len -= (size_t)n;
        }
        return TRUE;
}

gboolean fd_pwrite_all(int fd, const void *data, size_t len, off_t offset, const char *what, GError **error)
{
        const guint8 *p = data;
        while (len > 0) {
                ssize_t n = pwrite(fd, p, len, offset);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return moult_error_errno(error, errno, "writing %s", what);
                p += n;
                offset += n;
                len -= (size_t)n;
        }
        return TRUE;
}

gboolean fd_pread_all(int fd, void *data, size_t len, off_t offset, const char *what, GError **error)
{
        guint8 *p = data;
        while (len > 0) {
                ssize_t n = pread(fd, p, len, offset);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return moult_error_errno(error, errno, "reading %s", what);
                if (n == 0) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                                    "reading %s: it ends at byte %jd, %zu bytes too early", what,
                                    (intmax_t)offset, len);
                        return FALSE;
                }
                p += n;
                offset += n;
                len -= (size_t)n;
        }
        return TRUE;
}

GBytes *fd_read_file_at(int dirfd, const char *name, size_t max_bytes, GError **error)
{
        /* O_NONBLOCK: somebody may have put a FIFO there; opening it must not hang. */
        scoped_fd int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0) {
                moult_error_errno(error, errno, "opening %s", name);
                return NULL;
        }
        struct stat st;
        if (fstat(fd, &st) < 0) {
                moult_error_errno(error, errno, "looking at %s", name);
                return NULL;
        }
        if (!S_ISREG(st.st_mode)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "reading %s: it is not a regular file",
                            name);
                return NULL;
        }

        /* The size is only a hint: files in /proc say 0, others may grow. */
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        for (;;) {
                guint8 buf[65536];
                ssize_t n = read(fd, buf, sizeof buf);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        moult_error_errno(error, errno, "reading %s", name);
                        return NULL;
                }
                if (n == 0)
                        return g_byte_array_free_to_bytes(g_steal_pointer(&bytes));
                if ((size_t)n > max_bytes - bytes->len) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "reading %s: it is larger than %zu bytes", name, max_bytes);
                        return NULL;
                }
                g_byte_array_append(bytes, buf, (guint)n);
        }
}

gboolean fd_copy_piece(int from, int to, off_t offset, size_t len, const char *what_from, const char *what_to,
                       GError **error)
{
        off_t in = offset, out = offset;

        while (len > 0) {
                ssize_t n = copy_file_range(from, &in, to, &out, len, 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                len -= (size_t)n;
        }
        if (len == 0)
                return TRUE;
        /* Another file system, or an old kernel; an error that is real shows again here. */
        g_autofree guint8 *buf = g_malloc(len);
        return fd_pread_all(from, buf, len, in, what_from, error) &&
               fd_pwrite_all(to, buf, len, out, what_to, error);
}
