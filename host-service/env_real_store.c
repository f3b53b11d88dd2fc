/* host-service/env_real_store.c - the pack store as a directory of sealed files. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/env_real_private.h"

static void set_immutable(int fd, gboolean on)
{
        int flags;

        /* A safety belt, not a lock: tmpfs and many network file systems have no such attribute. */
        if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
                flags = on ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
                (void)!ioctl(fd, FS_IOC_SETFLAGS, &flags);
        }
}

static int store_create(gpointer self, const char *temp_name, GError **error)
{
        struct env_real *r = self;
        int fd = openat(r->packs_fd, temp_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0)
                moult_error_errno(error, errno, "making %s/%s", r->packs_dir, temp_name);
        return fd;
}

static gboolean store_seal(gpointer self, const char *temp_name, int fd, const char *name, GError **error)
{
        struct env_real *r = self;
        int fault = fault_point("store-seal");

        if (fault || fchmod(fd, 0444) < 0 || fsync(fd) < 0)
                return moult_error_errno(error, fault ? fault : errno, "sealing %s/%s", r->packs_dir,
                                         temp_name);
        fault_point("store-sealed");
        if (renameat2(r->packs_fd, temp_name, r->packs_fd, name, RENAME_NOREPLACE) < 0) {
                if (errno == EEXIST) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY, "pack %s/%s exists already",
                                    r->packs_dir, name);
                        return FALSE;
                }
                return moult_error_errno(error, errno, "renaming %s/%s to %s", r->packs_dir, temp_name, name);
        }
        if (fsync(r->packs_fd) < 0)
                return moult_error_errno(error, errno, "syncing %s", r->packs_dir);
        if (r->immutable)
                set_immutable(fd, TRUE);
        fault_point("store-renamed");
        return TRUE;
}

static int store_open(gpointer self, const char *name, GError **error)
{
        struct env_real *r = self;
        int fd = openat(r->packs_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0)
                moult_error_errno(error, errno, "opening the pack %s/%s", r->packs_dir, name);
        return fd;
}

static gboolean store_remove(gpointer self, const char *name, GError **error)
{
        struct env_real *r = self;
        scoped_fd int fd = openat(r->packs_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

        if (fd >= 0)
                set_immutable(fd, FALSE);
        /* Unlinking does not touch a mapping: the inode lives on until the last QEMU lets go of it. */
        if (unlinkat(r->packs_fd, name, 0) < 0 && errno != ENOENT)
                return moult_error_errno(error, errno, "removing the pack %s/%s", r->packs_dir, name);
        if (fsync(r->packs_fd) < 0)
                return moult_error_errno(error, errno, "syncing %s", r->packs_dir);
        return TRUE;
}

static GStrv store_list(gpointer self, GError **error)
{
        struct env_real *r = self;
        g_autoptr(GStrvBuilder) names = g_strv_builder_new();
        g_autoptr(GDir) dir = g_dir_open(r->packs_dir, 0, error);
        const char *name;

        if (!dir)
                return NULL;
        while ((name = g_dir_read_name(dir)))
                g_strv_builder_add(names, name);
        return g_strv_builder_end(names);
}

static char *store_path(gpointer self, const char *name)
{
        struct env_real *r = self;

        return g_build_filename(r->packs_dir, name, NULL);
}

const struct host_store_ops env_real_store_ops = {
        store_create, store_seal, store_open, store_remove, store_list, store_path,
};
