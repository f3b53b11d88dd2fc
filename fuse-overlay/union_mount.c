/* fuse-overlay/union_mount.c - a FUSE mount of ours, detached. */
#include "fuse-overlay/union_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>

#include "common/error.h"
#include "common/fd.h"
#include "fuse-overlay/mount_api.h"

int union_mount_new(const char *tag, unsigned attr, mode_t type, int *ret_fuse_fd, GError **error)
{
        scoped_fd int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        char fd[16], mode[16];

        if (fuse < 0) {
                moult_error_errno(error, errno, "opening /dev/fuse");
                return -1;
        }
        snprintf(fd, sizeof fd, "%d", fuse);
        snprintf(mode, sizeof mode, "%o", (unsigned)type);
        /* Permissions are the kernel's to check, from the modes and lists that we give it. Read-only as a
         * whole, not only where it is mounted: then times of access need not be asked for again. */
        const struct mount_option options[] = {
                {"ro", NULL},
                {"fd", fd},
                {"rootmode", mode},
                {"user_id", "0"},
                {"group_id", "0"},
                {"allow_other", NULL},
                {"default_permissions", NULL},
        };
        int mount =
                mount_api_make("fuse", tag, options, G_N_ELEMENTS(options), attr | MOUNT_ATTR_RDONLY, error);
        if (mount >= 0)
                *ret_fuse_fd = g_steal_fd(&fuse);
        return mount;
}
