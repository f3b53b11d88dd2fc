/* host-service/disk-helper/disk_confine.c - to what a qemu-nbd is held. */
#include "host-service/disk-helper/disk_confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"

/* Rights by the version of Landlock that brought them; older headers do not have the names. */
#define RIGHTS_1       ((UINT64_C(1) << 13) - 1)
#define RIGHT_REFER    (UINT64_C(1) << 13)
#define RIGHT_TRUNCATE (UINT64_C(1) << 14)

#define RIGHTS_PROGRAMS                                                                                      \
        (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

static gboolean allow(int ruleset, int fd, guint64 rights)
{
        struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = fd};

        return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

static gboolean allow_programs(int ruleset)
{
        static const char *const dirs[] = {"/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache"};

        for (guint i = 0; i < G_N_ELEMENTS(dirs); i++) {
                scoped_fd int fd = open(dirs[i], O_PATH | O_CLOEXEC);

                if (fd >= 0 && !allow(ruleset, fd, i < 4 ? RIGHTS_PROGRAMS : LANDLOCK_ACCESS_FS_READ_FILE))
                        return FALSE;
        }
        return TRUE;
}

int disk_confine_to(const int *fds, guint n, gboolean writable, GError **error)
{
        long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
        guint64 write = LANDLOCK_ACCESS_FS_WRITE_FILE | (version >= 3 ? RIGHT_TRUNCATE : 0);
        struct landlock_ruleset_attr all = {.handled_access_fs = RIGHTS_1 | (version >= 2 ? RIGHT_REFER : 0) |
                                                                 (version >= 3 ? RIGHT_TRUNCATE : 0)};
        scoped_fd int ruleset = -1;
        gboolean well;

        if (version < 1)
                return -1;
        ruleset = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
        well = ruleset >= 0 && allow_programs(ruleset);
        for (guint i = 0; well && i < n; i++)
                well = allow(ruleset, fds[i],
                             LANDLOCK_ACCESS_FS_READ_FILE | (i == 0 && writable ? write : 0));
        if (well)
                return g_steal_fd(&ruleset);
        moult_error_errno(error, errno, "confining qemu-nbd to the images");
        return -1;
}
