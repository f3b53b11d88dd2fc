/* common/atomic_file.c - a state file is the old one or the new one, also after a power cut.
 *
 * The temporary name is fixed (".NAME.new"): what a crash leaves behind is taken away by the next write, so
 * nothing piles up. The price: one writer per file at a time, which the owners of state directories guarantee
 * by a lock. */
#include "common/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"

static const char *base_name(const char *name)
{
        const char *slash = strrchr(name, '/');

        return slash != NULL ? slash + 1 : name;
}

static gboolean write_new(int dir, const char *temporary, const void *data, size_t len, mode_t mode,
                          const char *name, GError **error)
{
        if (unlinkat(dir, temporary, 0) < 0 && errno != ENOENT)
                return moult_error_errno(error, errno, "removing an old %s", temporary);
        scoped_fd int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return moult_error_errno(error, errno, "creating %s", temporary);
        if (!fd_write_all(fd, data, len, name, error))
                return FALSE;
        if (fchmod(fd, mode) < 0) /* not through open(): the umask is not ours to trust */
                return moult_error_errno(error, errno, "setting the mode of %s", name);
        int fake = fault_point("atomic-file.fsync");
        if (fake != 0)
                return moult_error_errno(error, fake, "syncing %s", name);
        if (!fault_skip("atomic-file.skip-fsync") && fsync(fd) < 0)
                return moult_error_errno(error, errno, "syncing %s", name);
        return TRUE;
}

static gboolean write_as(int dirfd, const char *name, const char *temporary, const void *data, size_t len,
                         mode_t mode, GError **error)
{
        g_autofree char *parent = g_path_get_dirname(name);
        const char *last = base_name(name);

        /* Opened anew: the caller's may be O_PATH, which cannot be synced. */
        scoped_fd int dir = openat(dirfd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
                return moult_error_errno(error, errno, "opening the directory of %s", name);
        if (!write_new(dir, temporary, data, len, mode, name, error)) {
                unlinkat(dir, temporary, 0);
                return FALSE;
        }
        int fake = fault_point("atomic-file.rename");
        if (fake != 0 || renameat(dir, temporary, dir, last) < 0) {
                moult_error_errno(error, fake != 0 ? fake : errno, "renaming %s to its place", name);
                unlinkat(dir, temporary, 0);
                return FALSE;
        }
        fake = fault_point("atomic-file.dirsync");
        if (fake != 0)
                return moult_error_errno(error, fake, "syncing the directory of %s", name);
        if (!fault_skip("atomic-file.skip-dirsync") && fsync(dir) < 0)
                return moult_error_errno(error, errno, "syncing the directory of %s", name);
        return TRUE;
}

gboolean atomic_file_write_at(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
                              GError **error)
{
        g_autofree char *temporary = g_strdup_printf(".%s.new", base_name(name));

        return write_as(dirfd, name, temporary, data, len, mode, error);
}

gboolean atomic_file_write_shared_at(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
                                     GError **error)
{
        g_autofree char *random = g_uuid_string_random(),
                        *temporary = g_strdup_printf(".%s.%s.new", base_name(name), random);

        return write_as(dirfd, name, temporary, data, len, mode, error);
}
