/* common/fs_beneath.c - paths that come from a pack or a peer are resolved inside a root, or not at all. */
#include "common/fs_beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"

#define PATH_BYTES_MAX 4095u
#define PART_BYTES_MAX 255u
/* The kernel answers EAGAIN when a directory was renamed while ".." was being resolved. Somebody who renames
 * all the time gets an error, not a busy loop. */
#define RESOLVE_ATTEMPTS 32

#define LINKS_MAX 40u /* as the kernel's */

static int resolve_how(int root_fd, const char *path, int flags, mode_t mode, guint64 more)
{
        struct open_how how = {
                .flags = (guint64)(guint)(flags | O_CLOEXEC),
                .mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? mode : 0,
                .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | more,
        };
        long fd = -1;
        for (int i = 0; i < RESOLVE_ATTEMPTS; i++) {
                fd = syscall(SYS_openat2, root_fd, path, &how, sizeof how);
                if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
                        break;
        }
        return (int)fd;
}

static int open_fails(const char *path, int saved, GError **error)
{
        if (saved == ENOSYS)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                            "opening %s: this kernel has no openat2 (Linux 5.6 or later is needed)", path);
        else
                moult_error_errno(error, saved, "opening %s", path);
        errno = saved;
        return -1;
}

int fs_beneath_open(int root_fd, const char *path, int flags, mode_t mode, GError **error)
{
        int fd = resolve_how(root_fd, path, flags, mode, 0);
        return fd >= 0 ? fd : open_fails(path, errno, error);
}

int fs_beneath_open_without_links(int root_fd, const char *path, int flags)
{
        return resolve_how(root_fd, path, flags, 0, RESOLVE_NO_SYMLINKS);
}

/* --- component by component: whose links lead there? --- */

struct way {
        int root_fd, here; /* O_PATH */
        guint links;
        struct fs_detour *detour;
};

static gboolean same_directory(int a, int b)
{
        struct stat x, y;
        return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Takes over @fd. */
static gboolean step_to(struct way *w, int fd)
{
        if (fd < 0)
                return FALSE;
        close(w->here);
        w->here = fd;
        return TRUE;
}

static gboolean walk_text(struct way *w, const char *text);

/* @link is an open symbolic link named @name in w->here. */
static gboolean follow(struct way *w, int link, const char *name)
{
        struct stat st, reached;
        char target[PATH_BYTES_MAX + 1];
        ssize_t n = readlinkat(link, "", target, sizeof target - 1);
        if (n < 0 || fstat(link, &st) < 0)
                return FALSE;
        if (!S_ISLNK(st.st_mode)) {
                errno = ENOTDIR;
                return FALSE;
        }
        if (++w->links > LINKS_MAX) {
                errno = ELOOP;
                return FALSE;
        }
        target[n] = '\0';
        if (target[0] == '/' && !step_to(w, fcntl(w->root_fd, F_DUPFD_CLOEXEC, 0)))
                return FALSE;
        if (!walk_text(w, target) || fstat(w->here, &reached) < 0)
                return FALSE;
        if (st.st_uid == 0 || st.st_uid == geteuid() || st.st_uid == reached.st_uid ||
            w->detour->link != NULL)
                return TRUE;
        w->detour->link = g_strdup(name);
        w->detour->owner = st.st_uid;
        return TRUE;
}

static gboolean walk_one(struct way *w, const char *name)
{
        if (g_str_equal(name, ".") || *name == '\0')
                return TRUE;
        if (g_str_equal(name, "..") && same_directory(w->here, w->root_fd))
                return TRUE;
        int fd = openat(w->here, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 || errno != ENOTDIR)
                return step_to(w, fd);
        scoped_fd int link = openat(w->here, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        return link >= 0 && follow(w, link, name);
}

static gboolean walk_text(struct way *w, const char *text)
{
        g_auto(GStrv) parts = g_strsplit(text, "/", -1);
        for (guint i = 0; parts[i] != NULL; i++)
                if (!walk_one(w, parts[i]))
                        return FALSE;
        return TRUE;
}

int fs_beneath_open_directory(int root_fd, const char *path, struct fs_detour *ret, GError **error)
{
        *ret = (struct fs_detour){0};
        int fd = resolve_how(root_fd, path, O_PATH | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS);
        if (fd >= 0)
                return fd;
        if (errno != ELOOP)
                return open_fails(path, errno, error);
        struct way w = {root_fd, fcntl(root_fd, F_DUPFD_CLOEXEC, 0), 0, ret};
        if (w.here >= 0 && walk_text(&w, path))
                return w.here;
        int saved = errno;
        if (w.here >= 0)
                close(w.here);
        g_clear_pointer(&ret->link, g_free);
        return open_fails(path, saved, error);
}

int fs_beneath_open_parent(int root_fd, const char *path, const char **ret_name, GError **error)
{
        const char *slash = strrchr(path, '/');
        g_autofree char *parent = slash != NULL ? g_strndup(path, (gsize)(slash - path)) : g_strdup(".");
        int fd = fs_beneath_open(root_fd, parent[0] != '\0' ? parent : ".", O_PATH | O_DIRECTORY, 0, error);
        if (fd < 0)
                return -1;
        *ret_name = slash != NULL ? slash + 1 : path;
        return fd;
}

const char *fs_path_refusal(const guint8 *path, size_t len)
{
        if (len == 0)
                return "path is empty";
        if (len > PATH_BYTES_MAX)
                return "path is longer than 4095 bytes";
        if (memchr(path, '\0', len) != NULL)
                return "path holds a NUL byte";
        if (path[0] == '/')
                return "path is absolute";
        for (size_t start = 0; start <= len;) {
                const guint8 *slash = start < len ? memchr(path + start, '/', len - start) : NULL;
                size_t end = slash != NULL ? (size_t)(slash - path) : len;
                size_t part = end - start;
                if (part == 0)
                        return end == len ? "path ends in '/'" : "path has an empty component";
                if (part > PART_BYTES_MAX)
                        return "path has a component longer than 255 bytes";
                if (part == 1 && path[start] == '.')
                        return "path has a '.' component";
                if (part == 2 && path[start] == '.' && path[start + 1] == '.')
                        return "path has a '..' component";
                start = end + 1;
        }
        return NULL;
}
