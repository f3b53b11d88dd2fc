/* common/fs_beneath.h - paths that come from a pack or a peer are resolved inside a root, or not at all.
 *
 * One door: openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS). Symbolic links in the guest's own directories
 * are followed as the guest itself would (an absolute one starts at @root_fd again), so /lib -> usr/lib and
 * /var/run -> /run work under any --root; nothing leads out. docs/decisions/0004-resolve-in-root.md. */
#pragma once

#include <glib.h>
#include <sys/types.h>

/* openat2() below @root_fd; @path is relative. -1 with @error set. O_CLOEXEC is added. */
int fs_beneath_open(int root_fd, const char *path, int flags, mode_t mode, GError **error);

/* The same, and no symbolic link is followed anywhere: errno is ELOOP for one. -1 with errno set. */
int fs_beneath_open_without_links(int root_fd, const char *path, int flags);

/* A symbolic link on the way that belongs to an unprivileged user, and leads to a directory which does not:
 * that user decides, at any moment, which of somebody else's directories it is. */
struct fs_detour {
        char *link; /* its last component; the caller frees; NULL: there is none */
        uid_t owner;
};
/* Opens the directory @path (O_PATH), following links as fs_beneath_open() does, and says whose they are.
 * Links of root and of the caller are trusted. */
int fs_beneath_open_directory(int root_fd, const char *path, struct fs_detour *ret, GError **error);

/* Opens the directory that holds the last component of @path (O_PATH|O_DIRECTORY) and sets @ret_name to that
 * component (points into @path). The last component itself is never followed. */
int fs_beneath_open_parent(int root_fd, const char *path, const char **ret_name, GError **error);

/* NULL if @path is a clean relative path (not empty, no leading or trailing '/', no empty, "." or ".." part,
 * no NUL, at most 4095 bytes, parts of at most 255), else why not. Pure. */
const char *fs_path_refusal(const guint8 *path, size_t len);
