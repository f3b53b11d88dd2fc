/* guest-agent/upgrade/commit_children.c - is what lies in a directory that comes or goes as a whole what the
 * release lists there? */
#include "guest-agent/upgrade/commit_children.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "guest-agent/upgrade/plan.h"

/* File systems with times in seconds cut the rest off. */
static gboolean other_time(const struct object_facts *live, const Moult__Entry *e)
{
        return live->mtime.tv_sec != e->mtime_s ||
               (live->mtime.tv_nsec != 0 && live->mtime.tv_nsec != (long)e->mtime_ns);
}

gboolean commit_differs_from_entry(const Manifest *m, const struct object_facts *live, const Moult__Entry *e)
{
        if (e->type == MOULT__ENTRY_TYPE__ENTRY_HARDLINK) {
                gssize target = manifest_find(m, e->link_target.data, e->link_target.len);
                if (target < 0)
                        return TRUE;
                e = m->entries[target];
        }
        if ((live->mode & S_IFMT) != plan_type_of_entry(e->type) || live->uid != e->uid ||
            live->gid != e->gid)
                return TRUE;
        /* Names that are made in a directory, and bytes that go through a fifo or a device, move the time. */
        switch (e->type) {
        case MOULT__ENTRY_TYPE__ENTRY_FILE:
                return other_time(live, e) || live->size != e->size;
        case MOULT__ENTRY_TYPE__ENTRY_SYMLINK:
                return other_time(live, e);
        default:
                return FALSE;
        }
}

static char *unexpected_in(const Manifest *m, DIR *dir, const char *path, ChildrenQuestion question);

static char *unexpected_child(const Manifest *m, int dirfd, const char *name, const char *path,
                              ChildrenQuestion question)
{
        gssize at = manifest_find(m, path, strlen(path));
        const Moult__Entry *e = at >= 0 ? m->entries[at] : NULL;
        gboolean deleted = e != NULL && e->type == MOULT__ENTRY_TYPE__ENTRY_DELETE;
        struct object_facts f;
        if (question == CHILDREN_CHANGED && (e == NULL || deleted))
                return NULL;
        if (e == NULL || deleted != (question == CHILDREN_DELETED) || !classify_look(dirfd, name, &f, NULL))
                return g_strdup(path);
        if (!f.exists)
                return NULL;
        if (question != CHILDREN_DELETED && commit_differs_from_entry(m, &f, e))
                return g_strdup(path);
        return S_ISDIR(f.mode) ? commit_children_unexpected(m, dirfd, name, path, question) : NULL;
}

static char *unexpected_in(const Manifest *m, DIR *dir, const char *path, ChildrenQuestion question)
{
        char *found = NULL;
        struct dirent *de;
        while (found == NULL && (errno = 0, de = readdir(dir)) != NULL) {
                if (g_str_equal(de->d_name, ".") || g_str_equal(de->d_name, ".."))
                        continue;
                g_autofree char *child = g_strdup_printf("%s/%s", path, de->d_name);
                found = unexpected_child(m, dirfd(dir), de->d_name, child, question);
        }
        if (found == NULL && errno != 0)
                found = g_strdup(path);
        return found;
}

char *commit_children_unexpected(const Manifest *m, int dirfd, const char *name, const char *path,
                                 ChildrenQuestion question)
{
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? NULL : g_strdup(path);
        DIR *dir = fdopendir(fd);
        if (dir == NULL) {
                close(fd);
                return g_strdup(path);
        }
        char *found = unexpected_in(m, dir, path, question);
        closedir(dir);
        return found;
}
