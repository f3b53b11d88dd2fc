/* fuse-overlay/object_copy.c - a copy of a regular file, holes kept, where the file system gives no link. */
#include "fuse-overlay/object_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"

#define BUFFER_BYTES (1024u * 1024u)

/* The kernel's own copy shares blocks where it can; else through a buffer. */
static gboolean copy_run(int from, int to, off_t at, off_t end, guint8 *buffer, const char *name,
                         GError **error)
{
        while (at < end) {
                off_t in = at, out = at;
                size_t len = (size_t)MIN(end - at, (off_t)BUFFER_BYTES);
                ssize_t n = copy_file_range(from, &in, to, &out, len, 0);
                if (n > 0) {
                        at += n;
                        continue;
                }
                if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
                        return moult_error_errno(error, errno, "copying to %s", name);
                if (!fd_pread_all(from, buffer, len, at, name, error) ||
                    !fd_pwrite_all(to, buffer, len, at, name, error))
                        return FALSE;
                at += (off_t)len;
        }
        return TRUE;
}

static gboolean copy_content(int from, int to, const char *name, GError **error)
{
        struct stat st;
        if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
                return moult_error_errno(error, errno, "copying to %s", name);
        g_autofree guint8 *buffer = g_malloc(BUFFER_BYTES);
        for (off_t at = 0; at < st.st_size;) {
                off_t data = lseek(from, at, SEEK_DATA);
                if (data < 0 && errno == ENXIO)
                        break; /* a hole to the end */
                off_t end = data < 0 ? st.st_size : lseek(from, data, SEEK_HOLE);
                if (data < 0)
                        data = at; /* a file system that does not tell */
                if (end < 0 || end > st.st_size)
                        end = st.st_size;
                if (!copy_run(from, to, data, end, buffer, name, error))
                        return FALSE;
                at = end;
        }
        return TRUE;
}

gboolean object_copy(int from_dirfd, const char *from_name, int to_dirfd, const char *to_name,
                     const Metadata *metadata, GError **error)
{
        scoped_fd int from = openat(from_dirfd, from_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (from < 0)
                return moult_error_errno(error, errno, "opening %s to copy it", from_name);
        scoped_fd int to =
                openat(to_dirfd, to_name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (to < 0) {
                if (errno != EEXIST)
                        return moult_error_errno(error, errno, "making %s", to_name);
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY, "%s is there already", to_name);
                return FALSE;
        }
        struct metadata_object o = {.dirfd = -1, .name = to_name, .fd = to};
        int fake = fault_point("object-copy");
        gboolean ok = fake == 0 || moult_error_errno(error, fake, "copying to %s", to_name);
        /* Not fresh: the directory may have handed down a group or an ACL. */
        ok = ok && copy_content(from, to, to_name, error) &&
             metadata_apply(&o, S_IFREG, metadata, /* fresh= */ FALSE, error) &&
             metadata_verify(&o, S_IFREG, metadata, error);
        if (!ok)
                unlinkat(to_dirfd, to_name, 0);
        return ok;
}
