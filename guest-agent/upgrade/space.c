/* guest-agent/upgrade/space.c - will everything fit, while the old files are kept? */
#include "guest-agent/upgrade/space.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"

/* Directory blocks, extent trees, the file system's own bookkeeping. */
#define MARGIN_BYTES (1024u * 1024u)

char *space_refusal(const struct space *s, guint64 need_bytes, guint64 need_inodes, const char *where)
{
        if (s->free_bytes < MARGIN_BYTES || need_bytes > s->free_bytes - MARGIN_BYTES)
                return g_strdup_printf(
                        "%s needs %.1f MiB and has %.1f MiB free: make room there, or roll old "
                        "generations away",
                        where, ((double)need_bytes + MARGIN_BYTES) / (1024 * 1024),
                        (double)s->free_bytes / (1024 * 1024));
        if (s->counts_inodes && (s->free_inodes < 2 || need_inodes > s->free_inodes - 2))
                return g_strdup_printf("%s needs %" G_GUINT64_FORMAT " inodes and has %" G_GUINT64_FORMAT
                                       " free: remove files there",
                                       where, need_inodes + 2, s->free_inodes);
        return NULL;
}

/* Areas of one file system (bind mounts) share its space. */
static gboolean space_of(const Plan *p, guint index, int root_fd, GError **error)
{
        const struct plan_area *a = plan_area(p, (gint32)index);
        guint64 bytes = 0, inodes = 0;
        for (guint i = 0; i < p->areas->len; i++) {
                const struct plan_area *other = plan_area(p, (gint32)i);
                if (other->dev != a->dev)
                        continue;
                if (i < index)
                        return TRUE; /* counted with the first */
                bytes += other->need_bytes;
                inodes += other->need_inodes;
        }
        if (inodes == 0)
                return TRUE;
        scoped_fd int fd =
                fs_beneath_open(root_fd, *a->path != '\0' ? a->path : ".", O_RDONLY | O_DIRECTORY, 0, error);
        struct statvfs v;
        if (fd < 0)
                return FALSE;
        if (fstatvfs(fd, &v) < 0)
                return moult_error_errno(error, errno, "asking for the free space of %s", a->mount_point);
        struct space s = {(guint64)v.f_bavail * v.f_frsize, v.f_favail, v.f_files > 0};
        g_autofree char *where = g_strdup_printf("%s (%s)", a->mount_point, a->fs_type);
        g_autofree char *why = space_refusal(&s, bytes, inodes, where);
        if (why == NULL)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NO_SPACE, "nothing was touched: %s", why);
        return FALSE;
}

gboolean space_check(const Plan *p, int root_fd, GError **error)
{
        for (guint i = 0; i < p->areas->len; i++)
                if (!space_of(p, i, root_fd, error))
                        return FALSE;
        return TRUE;
}

/* A tree is made anew for each release, and holds all of the target's: links of objects, and what has an
 * inode of its own. */
static guint64 inodes_of_trees(const Target *t)
{
        guint64 n = 0;
        for (guint i = 0; t != NULL && i < target_size(t); i++)
                n += target_get(t, i).entry->type != MOULT__ENTRY_TYPE__ENTRY_FILE;
        return n;
}

gboolean space_check_store(const Plan *p, const Target *t, int state_fd, GError **error)
{
        struct statvfs v;
        struct stat st;
        guint64 bytes = p->store_bytes,
                /* Objects with their shards, or the directories of a tree that nobody lists. */
                inodes = 2 * p->store_inodes + inodes_of_trees(t);
        if (p->n_merged == 0 || state_fd < 0)
                return TRUE;
        if (fstatvfs(state_fd, &v) < 0 || fstat(state_fd, &st) < 0)
                return moult_error_errno(error, errno, "asking for the free space of the state directory");
        for (guint i = 0; i < p->areas->len; i++) {
                const struct plan_area *a = plan_area(p, (gint32)i);
                bytes += a->dev == st.st_dev ? a->need_bytes : 0;
                inodes += a->dev == st.st_dev ? a->need_inodes : 0;
        }
        struct space s = {(guint64)v.f_bavail * v.f_frsize, v.f_favail, v.f_files > 0};
        g_autofree char *why =
                space_refusal(&s, bytes, inodes, "the state directory, where merged files are kept,");
        if (why == NULL)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NO_SPACE, "nothing was touched: %s", why);
        return FALSE;
}
