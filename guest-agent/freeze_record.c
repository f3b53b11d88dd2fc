/* guest-agent/freeze_record.c - what the holder of a freeze tells to whoever comes after it. */
#include "guest-agent/freeze_record.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "guest-agent/freeze_mounts.h"

static size_t size_of(guint n)
{
        return sizeof(struct freeze_record) + n * sizeof(struct freeze_record_mount);
}

static gboolean check_in_memory(int fd, const char *directory, GError **error)
{
        struct statfs fs;

        if (fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                    "%s is not in memory: who freezes file systems must be able to write there meanwhile",
                    directory);
        return FALSE;
}

struct freeze_record *freeze_record_new(const char *directory, guint n, GError **error)
{
        g_autofree char *path = g_build_filename(directory, FREEZE_RECORD_NAME, NULL);
        scoped_fd int fd = -1;
        void *at;
        int r;

        /* Another file than that of before: somebody may still look at that one. */
        if (unlink(path) < 0 && errno != ENOENT) {
                moult_error_errno(error, errno, "removing the record of the freeze before, %s", path);
                return NULL;
        }
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) {
                moult_error_errno(error, errno, "making the record of the freeze, %s", path);
                return NULL;
        }
        if (!check_in_memory(fd, directory, error)) {
                unlink(path);
                return NULL;
        }
        r = posix_fallocate(fd, 0, (off_t)size_of(n));
        at = r == 0 ? mmap(NULL, size_of(n), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0)
                    : MAP_FAILED;
        if (at == MAP_FAILED) {
                moult_error_errno(error, r ? r : errno, "making room for the record of the freeze, %s", path);
                unlink(path);
                return NULL;
        }
        ((struct freeze_record *)at)->n = n;
        return at;
}

struct freeze_record *freeze_record_load(const char *directory, GError **error)
{
        g_autofree char *path = g_build_filename(directory, FREEZE_RECORD_NAME, NULL);
        scoped_fd int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        struct freeze_record *r;
        struct stat st;

        if (fd < 0) {
                if (errno != ENOENT)
                        moult_error_errno(error, errno, "opening the record of a freeze, %s", path);
                return NULL;
        }
        if (fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof *r || st.st_uid != geteuid())
                return NULL; /* it was not complete, so nothing was frozen */
        r = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (r == MAP_FAILED) {
                moult_error_errno(error, errno, "reading the record of a freeze, %s", path);
                return NULL;
        }
        if (r->report.magic == FREEZE_MAGIC && r->n <= LIMIT_FREEZE_MOUNTS &&
            (off_t)size_of(r->n) == st.st_size)
                return r;
        munmap(r, (size_t)st.st_size);
        return NULL;
}

void freeze_record_unmap(struct freeze_record *r)
{
        if (r)
                munmap(r, size_of(r->n));
}

gboolean freeze_record_may_be_frozen(const struct freeze_record *r, guint i)
{
        switch ((enum freeze_mount_state)r->states[i]) {
        case FREEZE_MOUNT_FREEZING:
        case FREEZE_MOUNT_FROZEN:
        case FREEZE_MOUNT_THAWING:
        case FREEZE_MOUNT_RETHAW:
                return TRUE;
        default:
                return FALSE;
        }
}

gboolean freeze_record_is_left(const struct freeze_record *r)
{
        for (guint i = 0; i < r->n; i++)
                if (freeze_record_may_be_frozen(r, i))
                        return TRUE;
        return FALSE;
}

/* Where it was, or where else it can be seen. -1 without @error: it is mounted nowhere any more. */
static int open_mount(const struct freeze_record_mount *m, const MountTable *mounts, GError **error)
{
        int fd = freeze_mount_open(m->point, m->id, (dev_t)m->device, error);

        if (fd >= 0 || !mounts)
                return fd;
        g_clear_error(error);
        return freeze_device_open(mounts, (dev_t)m->device, error);
}

/* TRUE: it was frozen. Its state stays where it may still be, or may come to be. */
static gboolean rescue_one(struct freeze_record *r, guint i, const MountTable *mounts, gboolean patient,
                           GString *problem)
{
        const struct freeze_record_mount *m = &r->mounts[i];
        g_autoptr(GError) error = NULL;
        scoped_fd int fd = open_mount(m, mounts, &error);
        gboolean thawed;

        if (error) {
                g_string_append_printf(problem, "%s\n", error->message);
                return FALSE;
        }
        thawed = fd >= 0 && ioctl(fd, FITHAW, 0) == 0;
        if (fd >= 0 && !thawed) {
                if (errno != EINVAL) {
                        g_string_append_printf(problem, "thawing %s: %s\n", m->point, g_strerror(errno));
                        return FALSE;
                }
                /* It is not frozen: not yet, if what was killed still is on its way out of a FIFREEZE. */
                if (patient && r->states[i] == FREEZE_MOUNT_FREEZING)
                        return FALSE;
        }
        r->states[i] = FREEZE_MOUNT_THAWED;
        return thawed;
}

guint freeze_record_rescue(struct freeze_record *r, const MountTable *mounts, gboolean patient,
                           GString *problem)
{
        guint thawed = 0;

        for (guint i = r->n; i > 0; i--)
                if (freeze_record_may_be_frozen(r, i - 1))
                        thawed += rescue_one(r, i - 1, mounts, patient, problem) ? 1 : 0;
        r->report.phase = freeze_record_is_left(r) ? FREEZE_THAWING : FREEZE_THAWED;
        r->report.held = FALSE;
        return thawed;
}
