/* guest-agent/upgrade/staging_area.c - MOUNT/.moult/N: where new objects are made and old ones are kept. */
#include "guest-agent/upgrade/staging_area.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "common/remove_tree.h"
#include "guest-agent/upgrade/classify.h"

#define STAGING_NAME ".moult"

#define SECOND_NS G_GINT64_CONSTANT(1000000000)

static void mtime_restore(int fd, struct timespec mtime)
{
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, mtime};
        /* Best effort: a time that moved is no reason to stop an upgrade. */
        if (futimens(fd, times) < 0)
                g_debug("restoring a directory's time: %s", g_strerror(errno));
}

static int area_root(int root_fd, const char *area, GError **error)
{
        return fs_beneath_open(root_fd, *area != '\0' ? area : ".", O_RDONLY | O_DIRECTORY, 0, error);
}

/* Opens a directory of ours; refuses one that somebody else put there. */
static int open_own(int dirfd, const char *name, GError **error)
{
        scoped_fd int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;
        if (fd < 0) {
                moult_error_errno(error, errno, "opening the staging directory %s", name);
                return -1;
        }
        if (fstat(fd, &st) < 0) {
                moult_error_errno(error, errno, "looking at the staging directory %s", name);
                return -1;
        }
        if (st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                        "the staging directory %s exists, but belongs to user %u with mode %04o: remove it",
                        name, st.st_uid, (unsigned)st.st_mode & 07777);
                return -1;
        }
        return g_steal_fd(&fd);
}

gboolean staging_make_private(int fd, const char *name, GError **error)
{
        static const char *const acls[] = {"system.posix_acl_default", "system.posix_acl_access"};
        if (fchown(fd, geteuid(), getegid()) < 0 || fchmod(fd, 0700) < 0)
                return moult_error_errno(error, errno, "making the staging directory %s", name);
        for (guint i = 0; i < G_N_ELEMENTS(acls); i++)
                if (fremovexattr(fd, acls[i]) < 0 && errno != ENODATA && errno != EOPNOTSUPP)
                        return moult_error_errno(error, errno, "removing the inherited ACL of %s", name);
        return TRUE;
}

static int make_own(int dirfd, const char *name, gboolean exclusive, GError **error)
{
        if (mkdirat(dirfd, name, 0700) < 0) {
                if (errno != EEXIST) {
                        moult_error_errno(error, errno, "making the staging directory %s", name);
                        return -1;
                }
                if (exclusive) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "the staging directory %s exists, but this engine did not make it: "
                                    "another one, "
                                    "with another state directory, works on this tree; remove it if not",
                                    name);
                        return -1;
                }
                return open_own(dirfd, name, error);
        }
        scoped_fd int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
                moult_error_errno(error, errno, "making the staging directory %s", name);
                return -1;
        }
        /* A directory with a default ACL or the setgid bit hands them down. */
        if (!staging_make_private(fd, name, error))
                return -1;
        return g_steal_fd(&fd);
}

static gboolean probe_exchange(int fd, const char *area, GError **error)
{
        static const char *const names[] = {"probe-a", "probe-b"};
        gboolean ok = TRUE;
        for (guint i = 0; ok && i < 2; i++) {
                scoped_fd int f = openat(fd, names[i], O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
                if (f < 0)
                        ok = moult_error_errno(error, errno, "trying out the staging directory of /%s", area);
        }
        if (ok && renameat2(fd, names[0], fd, names[1], RENAME_EXCHANGE) < 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "the file system at /%s cannot exchange two files in one step (%s); nothing was "
                            "touched",
                            area, g_strerror(errno));
                ok = FALSE;
        }
        for (guint i = 0; i < 2; i++)
                unlinkat(fd, names[i], 0);
        return ok;
}

int staging_area_open(int root_fd, const char *area, guint64 generation, StagingMode mode, GError **error)
{
        gboolean create = mode != STAGING_OPEN;
        g_autofree char *number = g_strdup_printf("%" G_GUINT64_FORMAT, generation);
        scoped_fd int top = area_root(root_fd, area, error);
        if (top < 0)
                return -1;
        struct stat before;
        if (fstat(top, &before) < 0) {
                moult_error_errno(error, errno, "looking at /%s", area);
                return -1;
        }
        scoped_fd int moult =
                create ? make_own(top, STAGING_NAME, FALSE, error) : open_own(top, STAGING_NAME, error);
        if (create) {
                fault_point("area-made");
                mtime_restore(top, before.st_mtim);
        }
        if (moult < 0) {
                g_prefix_error(error, "in /%s: ", area);
                return -1;
        }
        scoped_fd int fd = create ? make_own(moult, number, mode == STAGING_CREATE, error)
                                  : open_own(moult, number, error);
        if (fd < 0) {
                g_prefix_error(error, "in %s of /%s: ", STAGING_NAME, area);
                return -1;
        }
        if (create && !probe_exchange(fd, area, error))
                return -1;
        return g_steal_fd(&fd);
}

gboolean staging_area_sync(int root_fd, const char *area, GError **error)
{
        scoped_fd int top = area_root(root_fd, area, error);
        if (top < 0)
                return FALSE;
        scoped_fd int moult = openat(top, STAGING_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if ((moult >= 0 && fsync(moult) < 0) || fsync(top) < 0)
                return moult_error_errno(error, errno, "syncing the staging directory in /%s", area);
        return TRUE;
}

/* The time that the directory @top should have once `.moult` is gone from it: the one it has now, unless we
 * were killed between making `.moult` and putting back the time. Then the directory was last changed when
 * `.moult` was born, and nobody has set its time since (that would have moved ctime alone). */
static struct timespec time_without(int top, const struct object_facts *moult, gint64 planned_ns)
{
        struct object_facts now;
        if (!classify_look(top, "", &now, NULL))
                return (struct timespec){.tv_nsec = UTIME_OMIT};
        gint64 mtime_ns = now.mtime.tv_sec * SECOND_NS + now.mtime.tv_nsec;
        gboolean untouched = now.mtime.tv_sec == now.ctime.tv_sec && now.mtime.tv_nsec == now.ctime.tv_nsec;
        /* The two come from a clock that ticks between them. */
        gboolean born_then = moult->birth_ns != 0 && mtime_ns >= moult->birth_ns - SECOND_NS / 10 &&
                             mtime_ns <= moult->birth_ns + SECOND_NS / 10;
        if (planned_ns != 0 && untouched && born_then)
                return (struct timespec){planned_ns / SECOND_NS, planned_ns % SECOND_NS};
        return now.mtime;
}

gboolean staging_area_remove(int root_fd, const char *area, guint64 generation, gint64 planned_mtime_ns,
                             GHashTable *keep, GError **error)
{
        g_autoptr(GError) why = NULL;
        g_autofree char *number = g_strdup_printf("%" G_GUINT64_FORMAT, generation);
        scoped_fd int top = area_root(root_fd, area, &why);
        scoped_fd int moult =
                top >= 0 ? openat(top, STAGING_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (moult < 0) {
                if (top < 0 && !g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND)) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return FALSE;
                }
                return TRUE;
        }
        scoped_fd int fd = openat(moult, number, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && !remove_tree_children(fd, keep, error))
                return FALSE;
        fault_point("cleanup-area");
        if (unlinkat(moult, number, AT_REMOVEDIR) < 0 && errno != ENOENT && errno != ENOTEMPTY &&
            errno != EEXIST)
                return moult_error_errno(error, errno, "removing the staging directory in /%s", area);
        struct object_facts own;
        if (!classify_look(moult, "", &own, error))
                return FALSE;
        struct timespec before = time_without(top, &own, planned_mtime_ns);
        if (unlinkat(top, STAGING_NAME, AT_REMOVEDIR) == 0)
                mtime_restore(top, before);
        return TRUE;
}
