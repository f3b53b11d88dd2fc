/* common/remove_tree.c - a directory with everything in it goes, never across a mount or a link. */
#include "common/remove_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"

/* The kernel answers EAGAIN when something was renamed meanwhile. */
#define ATTEMPTS 32

static int open_inside(int dirfd, const char *path)
{
        struct open_how how = {
                .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
        };
        long fd = -1;
        for (int i = 0; i < ATTEMPTS; i++) {
                fd = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
                if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
                        break;
        }
        return (int)fd;
}

static gboolean fails(GError **error, int saved, const char *path)
{
        if (saved != EBUSY && saved != EXDEV)
                return moult_error_errno(error, saved, "removing %s", path);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "something is mounted on %s: left alone", path);
        return FALSE;
}

/* Goes with all that can go at once. @ret_fuller: names of directories with something in them. */
static gboolean remove_flat(int fd, const char *path, GHashTable *keep, GPtrArray *ret_fuller, GError **error)
{
        int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
        if (dir == NULL) {
                int saved = errno;
                if (copy >= 0)
                        close(copy);
                return moult_error_errno(error, saved, "listing %s to remove it", path);
        }
        gboolean ok = TRUE;
        for (;;) {
                errno = 0;
                struct dirent *de = readdir(dir);
                if (de == NULL) {
                        if (errno != 0)
                                ok = moult_error_errno(error, errno, "listing %s to remove it", path);
                        break;
                }
                const char *name = de->d_name;
                if (g_str_equal(name, ".") || g_str_equal(name, "..") ||
                    (keep != NULL && g_hash_table_contains(keep, name)))
                        continue;
                if (unlinkat(fd, name, 0) == 0 || errno == ENOENT)
                        continue;
                if (errno == EISDIR || errno == EPERM) {
                        int unlinked = errno;
                        if (unlinkat(fd, name, AT_REMOVEDIR) == 0)
                                continue;
                        if (errno == ENOTEMPTY || errno == EEXIST) {
                                g_ptr_array_add(ret_fuller, g_strdup(name));
                                continue;
                        }
                        if (errno == ENOTDIR)
                                errno = unlinked;
                }
                ok = fails(error, errno, name);
                break;
        }
        closedir(dir);
        return ok;
}

/* Depth first, by path: whatever was emptied is listed once more, and then it goes. */
static gboolean remove_directory(int dirfd, const char *name, GError **error)
{
        g_autoptr(GPtrArray) stack = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(stack, g_strdup(name));
        while (stack->len > 0) {
                const char *path = stack->pdata[stack->len - 1];
                if (unlinkat(dirfd, path, AT_REMOVEDIR) == 0 || errno == ENOENT) {
                        g_ptr_array_set_size(stack, (gint)stack->len - 1);
                        continue;
                }
                if (errno != ENOTEMPTY && errno != EEXIST)
                        return fails(error, errno, path);
                scoped_fd int fd = open_inside(dirfd, path);
                if (fd < 0)
                        return fails(error, errno, path);
                g_autoptr(GPtrArray) fuller = g_ptr_array_new_with_free_func(g_free);
                if (!remove_flat(fd, path, NULL, fuller, error))
                        return FALSE;
                if (fuller->len == 0 && unlinkat(dirfd, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
                        return fails(error, errno, path);
                for (guint i = 0; i < fuller->len; i++)
                        g_ptr_array_add(stack, g_strconcat(path, "/", (char *)fuller->pdata[i], NULL));
        }
        return TRUE;
}

gboolean remove_tree_children(int fd, GHashTable *keep, GError **error)
{
        g_autoptr(GPtrArray) fuller = g_ptr_array_new_with_free_func(g_free);
        if (!remove_flat(fd, "a directory", keep, fuller, error))
                return FALSE;
        for (guint i = 0; i < fuller->len; i++)
                if (!remove_directory(fd, fuller->pdata[i], error))
                        return FALSE;
        return TRUE;
}

gboolean remove_tree(int dirfd, const char *name, GError **error)
{
        if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
                return TRUE;
        if (errno != EISDIR && errno != EPERM)
                return fails(error, errno, name);
        int unlinked = errno;
        if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
                return TRUE;
        if (errno == ENOTDIR)
                return fails(error, unlinked, name);
        if (errno != ENOTEMPTY && errno != EEXIST)
                return fails(error, errno, name);
        return remove_directory(dirfd, name, error);
}
