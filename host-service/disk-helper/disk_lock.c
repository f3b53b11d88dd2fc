/* host-service/disk-helper/disk_lock.c - one change of a disk's files at a time. */
#include "host-service/disk-helper/disk_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/fd.h"

int disk_lock_take(const char *run_dir, int dir_fd, const char *name, GError **error)
{
        g_autofree char *what = NULL, *id = NULL, *path = NULL;
        scoped_fd int fd = -1;
        struct stat st;

        if (fstat(dir_fd, &st) != 0) {
                moult_error_errno(error, errno, "looking at the directory of %s", name);
                return -1;
        }
        what = g_strdup_printf("%ju:%ju/%s", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino, name);
        id = g_compute_checksum_for_string(G_CHECKSUM_SHA256, what, -1);
        path = g_build_filename(run_dir, id, NULL);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        while (fd >= 0 && flock(fd, LOCK_EX) != 0)
                if (errno != EINTR) {
                        moult_error_errno(error, errno, "locking %s", path);
                        return -1;
                }
        if (fd < 0)
                moult_error_errno(error, errno, "making the lock %s", path);
        return g_steal_fd(&fd);
}
