/* guest-agent/stale_process.c - one process, by its directory in /proc. */
#include "guest-agent/stale_process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/fs_beneath.h"
#include "guest-agent/stale_parse.h"
#include "proto/limits.h"

#define TEXT_MAX        (64u * 1024u)
#define MAPS_MAX        (64u * 1024u * 1024u) /* half a million mappings */
#define MOUNTS_MAX      (16u * 1024u * 1024u)
#define DESCRIPTORS_MAX 262144u
#define NAME_MAX_       4096u
/* A process that holds more is told with this number. */
#define FILES_MAX 4096u

static char *read_text(const StaleProcess *p, const char *name, gsize max)
{
        g_autoptr(GBytes) b = fd_read_file_at(p->dirfd, name, max, NULL);
        gsize len;
        const char *data = b ? g_bytes_get_data(b, &len) : NULL;

        return b ? g_strndup(data ? data : "", data ? len : 0) : NULL;
}

static char *read_link(int dirfd, const char *name)
{
        char path[NAME_MAX_];
        ssize_t n = readlinkat(dirfd, name, path, sizeof path);

        return n > 0 && (gsize)n < sizeof path ? g_strndup(path, (gsize)n) : NULL;
}

/* Something of it could not be read: because it has ended, or although it has not. */
static StaleLook failed(const StaleProcess *p)
{
        g_autofree char *text = read_text(p, "stat", TEXT_MAX);
        struct stale_stat stat;

        return text && stale_stat_parse(text, &stat) && !stat.ended ? STALE_LOOK_DENIED : STALE_LOOK_NOTHING;
}

StaleProcess *stale_process_open(gint64 pid, StaleLook *ret)
{
        g_autoptr(StaleProcess) p = g_new0(StaleProcess, 1);
        g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT, pid);
        g_autofree char *text = NULL, *link = NULL;
        struct stale_stat stat;

        p->pid = pid;
        p->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        *ret = STALE_LOOK_NOTHING;
        text = p->dirfd >= 0 ? read_text(p, "stat", TEXT_MAX) : NULL;
        if (!text || !stale_stat_parse(text, &stat) || stat.kernel_thread || stat.ended)
                return NULL;
        p->parent = stat.parent;
        link = read_link(p->dirfd, "ns/mnt");
        if (!link || !stale_namespace_parse(link, &p->mount_namespace)) {
                *ret = failed(p);
                return NULL;
        }
        p->files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        *ret = STALE_LOOK_DONE;
        return g_steal_pointer(&p);
}

void stale_process_free(StaleProcess *p)
{
        if (!p)
                return;
        if (p->dirfd >= 0)
                close(p->dirfd);
        if (p->files)
                g_hash_table_unref(p->files);
        g_free(p);
}

/* ---- whose tree ---- */

gboolean stale_process_sees_our_tree(const StaleProcess *p, const struct stale_view *view)
{
        struct stat root;

        if (p->mount_namespace == view->mount_namespace)
                return TRUE;
        return fstatat(p->dirfd, "root", &root, 0) == 0 && root.st_dev == view->root.st_dev &&
               root.st_ino == view->root.st_ino;
}

MountTable *stale_process_mounts(const StaleProcess *p)
{
        g_autofree char *text = read_text(p, "mountinfo", MOUNTS_MAX);

        return text ? mount_table_parse(text) : NULL;
}

/* ---- files ---- */

struct looking {
        StaleProcess *p;
        const struct stale_view *view;
        gboolean behind;
        MountTable *own; /* of a process in another mount namespace; made when it is needed */
};

static void note(struct looking *l, const char *name)
{
        if (g_hash_table_size(l->p->files) < FILES_MAX)
                g_hash_table_add(l->p->files, g_strdup(name));
}

/* What the path leads to in the process's own mount namespace: other mounts may be there on purpose. */
static gboolean is_its_own_file(struct looking *l, gsize index, const struct stale_held *held)
{
        scoped_fd int root = openat(l->p->dirfd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
        const char *path = stale_files_name(l->view->files, index) + 1;
        scoped_fd int fd = root >= 0 ? fs_beneath_open(root, path, O_PATH | O_NOFOLLOW, 0, NULL) : -1;
        struct stat now;

        return fd >= 0 && fstat(fd, &now) == 0 && now.st_dev == held->stat.st_dev &&
               now.st_ino == held->stat.st_ino;
}

static gboolean is_replaced(struct looking *l, gsize index, const struct stale_held *held)
{
        if (!stale_files_is_replaced(l->view->files, index, held))
                return FALSE;
        return l->p->mount_namespace == l->view->mount_namespace || l->behind ||
               !is_its_own_file(l, index, held);
}

/* The mount that @link leads into is in nobody's table: it was taken off while this process held it. */
static gboolean is_detached(struct looking *l, const char *link)
{
        struct statx sx;
        const MountTable *table = l->view->mounts;

        if (statx(l->p->dirfd, link, AT_STATX_DONT_SYNC, STATX_BASIC_STATS | STATX_MNT_ID, &sx) < 0 ||
            !(sx.stx_mask & STATX_MNT_ID))
                return FALSE;
        if (l->p->mount_namespace != l->view->mount_namespace) {
                if (!l->own)
                        l->own = stale_process_mounts(l->p);
                table = l->own;
        }
        return table && !mount_table_find(table, sx.stx_mnt_id);
}

/* The path that an object under a detached mount may have been at, if it is another one now. */
static gssize find_detached(struct looking *l, const char *name, const struct stale_held *held)
{
        StaleFiles *files = l->view->files;
        gssize index = is_detached(l, held->link) ? stale_files_find_detached(files, name, -1) : -1;

        while (index >= 0 && !stale_files_is_replaced(files, (gsize)index, held))
                index = stale_files_find_detached(files, name, index);
        return index;
}

/* @name: the kernel's. @link: leads to the object, below /proc/PID. */
static void judge(struct looking *l, const char *name, const char *link)
{
        StaleFiles *files = l->view->files;
        g_autofree char *undeleted = stale_name_undeleted(name);
        g_autofree char *was = stale_aside_path(l->view->aside, undeleted ? undeleted : name);
        gssize index = was ? stale_files_add(files, was) : stale_files_find(files, name);
        struct stale_held held = {.dirfd = l->p->dirfd, .link = link};

        if (index < 0 && stale_files_find_detached(files, name, -1) < 0)
                return;
        if (fstatat(l->p->dirfd, link, &held.stat, 0) < 0)
                return; /* closed or unmapped meanwhile */
        if (index < 0)
                index = find_detached(l, name, &held);
        else if (!is_replaced(l, (gsize)index, &held))
                return;
        if (index >= 0)
                note(l, stale_files_path(files, (gsize)index));
}

static StaleLook look_at_maps(struct looking *l)
{
        g_autoptr(GBytes) b = fd_read_file_at(l->p->dirfd, "maps", MAPS_MAX, NULL);
        g_autofree char *text = NULL, *before = NULL;
        struct stale_mapping m;
        const char *at;
        gsize len;

        if (!b)
                return failed(l->p);
        at = g_bytes_get_data(b, &len);
        at = text = g_strndup(at ? at : "", at ? len : 0);
        while (stale_mapping_next(&at, &m)) {
                g_autofree char *name = stale_mapping_name(&m);
                g_autofree char *link = NULL;

                if (before && g_str_equal(before, name))
                        continue; /* a library has half a dozen of them */
                link = stale_mapping_link(&m);
                judge(l, name, link);
                g_free(before);
                before = g_steal_pointer(&name);
        }
        return STALE_LOOK_DONE;
}

static StaleLook look_at_descriptors(struct looking *l)
{
        int fd = openat(l->p->dirfd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        struct dirent *de;
        guint n = 0;

        if (!dir) {
                if (fd >= 0)
                        close(fd);
                return failed(l->p);
        }
        while (n < DESCRIPTORS_MAX && (de = readdir(dir))) {
                g_autofree char *name = g_ascii_isdigit(de->d_name[0]) ? read_link(fd, de->d_name) : NULL;
                g_autofree char *link = g_strconcat("fd/", de->d_name, NULL);

                n++;
                if (name && name[0] == '/') /* no socket, no pipe */
                        judge(l, name, link);
        }
        closedir(dir);
        return n < DESCRIPTORS_MAX ? STALE_LOOK_DONE : STALE_LOOK_DENIED;
}

StaleLook stale_process_look(StaleProcess *p, const struct stale_view *view, gboolean behind)
{
        struct looking l = {p, view, behind, NULL};
        g_autofree char *program = NULL;
        StaleLook maps, descriptors;

        if (!stale_process_sees_our_tree(p, view))
                return STALE_LOOK_NOTHING;
        maps = look_at_maps(&l);
        program = read_link(p->dirfd, "exe");
        if (program)
                judge(&l, program, "exe");
        descriptors = look_at_descriptors(&l);
        mount_table_free(l.own);
        if (maps == STALE_LOOK_DENIED || descriptors == STALE_LOOK_DENIED)
                return STALE_LOOK_DENIED;
        return maps == STALE_LOOK_NOTHING || descriptors == STALE_LOOK_NOTHING ? STALE_LOOK_NOTHING
                                                                               : STALE_LOOK_DONE;
}

/* ---- names ---- */

char *stale_process_command(const StaleProcess *p)
{
        g_autoptr(GBytes) b = fd_read_file_at(p->dirfd, "cmdline", 4u * 1024u * 1024u, NULL);
        gsize len = 0;
        const char *arguments = b ? g_bytes_get_data(b, &len) : NULL;
        char *command = arguments ? stale_command_of(arguments, len) : NULL;
        g_autofree char *title = command ? NULL : read_text(p, "comm", TEXT_MAX);

        return command ? command : title ? g_strdup_printf("[%s]", g_strchomp(title)) : NULL;
}

char *stale_process_unit(const StaleProcess *p)
{
        g_autofree char *text = read_text(p, "cgroup", TEXT_MAX);

        return text ? stale_unit_of_cgroup(text) : NULL;
}
