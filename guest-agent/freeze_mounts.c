/* guest-agent/freeze_mounts.c - which file systems a freeze is for, in which order, and their descriptors. */
#include "guest-agent/freeze_mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/error.h"
#include "common/fd.h"

/* Of those, a file system has a number that is no block device's. */
static gboolean has_own_number(const char *type)
{
        return g_str_equal(type, "btrfs") || g_str_equal(type, "bcachefs");
}

static gboolean is_frozen_with(const struct mount *m)
{
        FsKind kind = fs_kind_of(m->type);

        if (m->super_read_only || kind == FS_READ_ONLY_FORMAT || kind == FS_NETWORK || kind == FS_PSEUDO)
                return FALSE;
        if (g_str_has_prefix(m->type, "fuse")) /* fuseblk has a device, and a server that must not wait */
                return FALSE;
        return major(m->device) != 0 || has_own_number(m->type);
}

static void target_free(gpointer data)
{
        struct freeze_target *t = data;

        g_ptr_array_unref(t->mounts);
        g_free(t);
}

static struct freeze_target *find(const GPtrArray *all, dev_t device)
{
        for (guint i = 0; i < all->len; i++)
                if (((struct freeze_target *)all->pdata[i])->device == device)
                        return all->pdata[i];
        return NULL;
}

GPtrArray *freeze_mounts_select(const MountTable *t)
{
        GPtrArray *all = g_ptr_array_new_with_free_func(target_free);

        for (guint i = 0; i < mount_table_size(t); i++) {
                const struct mount *m = mount_table_get(t, i);
                struct freeze_target *target;

                if (!is_frozen_with(m))
                        continue;
                target = find(all, m->device);
                if (!target) {
                        target = g_new(struct freeze_target, 1);
                        *target = (struct freeze_target){m->device, g_ptr_array_new()};
                        g_ptr_array_insert(all, 0, target);
                }
                g_ptr_array_add(target->mounts, (gpointer)m);
        }
        return all;
}

/* Whether @fd is of that mount, or where the kernel does not say (before 5.8), of that file system. */
static gboolean is_of(int fd, guint64 id, dev_t device)
{
        struct statx sx;

        if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &sx) < 0)
                return FALSE;
        if (!S_ISDIR(sx.stx_mode) && !S_ISREG(sx.stx_mode))
                return FALSE;
        if (sx.stx_mask & STATX_MNT_ID)
                return sx.stx_mnt_id == id;
        return major(device) == 0 || makedev(sx.stx_dev_major, sx.stx_dev_minor) == device;
}

int freeze_mount_open(const char *point, guint64 id, dev_t device, GError **error)
{
        scoped_fd int fd = open(point, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0) {
                moult_error_errno(error, errno, "opening the mount point %s", point);
                return -1;
        }
        if (is_of(fd, id, device))
                return g_steal_fd(&fd);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                    "the mount point %s is covered by another mount", point);
        return -1;
}

int freeze_target_open(const struct freeze_target *t, const struct mount **ret_mount, GError **error)
{
        for (guint i = 0; i < t->mounts->len; i++) {
                const struct mount *m = t->mounts->pdata[i];
                int fd;

                g_clear_error(error);
                fd = freeze_mount_open(m->point, m->id, t->device, error);
                if (fd < 0)
                        continue;
                *ret_mount = m;
                return fd;
        }
        return -1;
}

int freeze_device_open(const MountTable *t, dev_t device, GError **error)
{
        int fd = -1;

        for (guint i = 0; i < mount_table_size(t) && fd < 0; i++) {
                const struct mount *m = mount_table_get(t, i);

                if (m->device != device)
                        continue;
                g_clear_error(error);
                fd = freeze_mount_open(m->point, m->id, device, error);
        }
        if (fd >= 0)
                g_clear_error(error);
        return fd;
}
