/* host-service/release/scratch.c - file contents put aside while a release is made. */
#include "host-service/release/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"

struct Scratch {
        int fd;
        uint64_t size;
};

int scratch_file_new(GError **error)
{
        const char *dir = g_getenv("TMPDIR");
        g_autofree char *name = g_build_filename(dir && *dir ? dir : "/var/tmp", "moult-XXXXXX", NULL);
        int fd = g_mkstemp_full(name, O_RDWR | O_CLOEXEC, 0600);

        if (fd < 0) {
                moult_error_errno(error, errno,
                                  "making a temporary file %s (TMPDIR chooses another directory)", name);
                return -1;
        }
        unlink(name);
        return fd;
}

Scratch *scratch_new(GError **error)
{
        int fd = scratch_file_new(error);

        if (fd < 0)
                return NULL;
        Scratch *s = g_new0(Scratch, 1);
        s->fd = fd;
        return s;
}

void scratch_free(Scratch *s)
{
        if (!s)
                return;
        close(s->fd);
        g_free(s);
}

gboolean scratch_append(Scratch *s, const void *data, size_t len, GError **error)
{
        if (!fd_pwrite_all(s->fd, data, len, (off_t)s->size, "a temporary file", error))
                return FALSE;
        s->size += len;
        return TRUE;
}

uint64_t scratch_size(const Scratch *s)
{
        return s->size;
}

int scratch_open(const Scratch *s, uint64_t offset, uint64_t size, GError **error)
{
        scoped_fd int fd = scratch_file_new(error);
        off_t from = (off_t)offset;

        if (fd < 0)
                return -1;
        while (size > 0) {
                ssize_t n = copy_file_range(s->fd, &from, fd, NULL, size, 0);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0) {
                        moult_error_errno(error, n == 0 ? EIO : errno, "copying a temporary file");
                        return -1;
                }
                size -= (uint64_t)n;
        }
        lseek(fd, 0, SEEK_SET);
        return g_steal_fd(&fd);
}
