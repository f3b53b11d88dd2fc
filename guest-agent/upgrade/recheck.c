/* guest-agent/upgrade/recheck.c - is the live tree still what the plan was made from? */
#include "guest-agent/upgrade/recheck.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "proto/message.h"

/* The change time that an object must have. A name that we have given to a file which stays has changed its:
 * the look at that moment (stage_link) is what counts for all its names. */
static const struct timespec *expected_ctime(const struct plan_entry *pe, GHashTable *linked)
{
        const struct plan_entry *target = g_hash_table_lookup(linked, &pe->old_inode);
        return target != NULL && target->old_dev == pe->old_dev ? &target->old_ctime : &pe->old_ctime;
}

static gboolean changed(const struct plan_entry *pe, const struct object_facts *o, GHashTable *linked)
{
        if (!o->exists)
                return pe->old_inode != 0;
        if (o->inode != pe->old_inode || o->birth_ns != pe->old_birth_ns)
                return TRUE;
        if (S_ISDIR(o->mode))
                return FALSE;
        if (pe->served)
                return o->size != pe->old_size;
        const struct timespec *ctime = expected_ctime(pe, linked);
        return o->ctime.tv_sec != ctime->tv_sec || o->ctime.tv_nsec != ctime->tv_nsec ||
               o->size != pe->old_size;
}

static gboolean drift(const char *path, GError **error)
{
        g_autofree char *shown = message_string(message_bytes(path));
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_DRIFT, "/%s was changed by somebody else: try again",
                    shown);
        return FALSE;
}

static gboolean recheck_children(const Plan *p, int dirfd, const char *name, const char *path,
                                 GHashTable *linked, GError **error);

static gboolean recheck_child(const Plan *p, int dirfd, const char *name, const char *path,
                              GHashTable *linked, GError **error)
{
        gssize at = manifest_find(p->manifest, path, strlen(path));
        struct object_facts o;
        if (at < 0 || !p->entries[at].selected ||
            p->manifest->entries[at]->type != MOULT__ENTRY_TYPE__ENTRY_DELETE)
                return drift(path, error);
        if (!classify_look(dirfd, name, &o, error))
                return FALSE;
        if (changed(&p->entries[at], &o, linked))
                return drift(path, error);
        return !S_ISDIR(o.mode) || recheck_children(p, dirfd, name, path, linked, error);
}

/* A directory that goes as a whole: what is in it now goes with it, so it must be what was looked at. */
static gboolean recheck_children(const Plan *p, int dirfd, const char *name, const char *path,
                                 GHashTable *linked, GError **error)
{
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        if (dir == NULL) {
                int saved = errno;
                if (fd >= 0)
                        close(fd);
                return moult_error_errno(error, saved, "listing /%s", path);
        }
        gboolean ok = TRUE;
        struct dirent *de;
        while (ok && (errno = 0, de = readdir(dir)) != NULL) {
                if (g_str_equal(de->d_name, ".") || g_str_equal(de->d_name, ".."))
                        continue;
                g_autofree char *child = g_strdup_printf("%s/%s", path, de->d_name);
                ok = recheck_child(p, fd, de->d_name, child, linked, error);
        }
        if (ok && errno != 0)
                ok = moult_error_errno(error, errno, "listing /%s", path);
        closedir(dir);
        return ok;
}

/* Its name was looked at for the plan, and it is a name of its own. */
static gboolean needs_look(const Plan *p, guint i)
{
        const struct plan_entry *pe = &p->entries[i];
        if (!pe->selected || pe->directory < 0 || pe->how == HOW_WITHIN || pe->how == HOW_IN_PLACE)
                return FALSE;
        if (pe->how == HOW_MERGE) /* a directory's own metadata: its place is itself */
                return !g_str_equal(pe->physical, plan_directory(p, pe->directory)->path);
        if (pe->how != HOW_NONE)
                return TRUE;
        return pe->old_inode != 0 && p->manifest->entries[i]->type != MOULT__ENTRY_TYPE__ENTRY_DIRECTORY;
}

gboolean recheck_plan(const Plan *p, int root_fd, GError **error)
{
        /* inode -> struct plan_entry of a live file that we have given another name */
        g_autoptr(GHashTable) linked = g_hash_table_new(g_int64_hash, g_int64_equal);
        gint32 open_directory = -1;
        scoped_fd int fd = -1;

        for (guint i = 0; i < p->n_entries; i++)
                if (p->entries[i].link_live) {
                        struct plan_entry *target = &p->entries[p->entries[i].link_of];
                        g_hash_table_insert(linked, &target->old_inode, target);
                }
        for (guint i = 0; i < p->n_entries; i++) {
                const struct plan_entry *pe = &p->entries[i];
                if (!needs_look(p, i))
                        continue;
                if (pe->directory != open_directory) {
                        const char *path = plan_directory(p, pe->directory)->path;
                        scoped_fd_close(&fd);
                        fd = fs_beneath_open(root_fd, *path != '\0' ? path : ".", O_PATH | O_DIRECTORY, 0,
                                             error);
                        open_directory = pe->directory;
                        if (fd < 0)
                                return FALSE;
                }
                const char *slash = strrchr(pe->path, '/'), *name = slash != NULL ? slash + 1 : pe->path;
                struct object_facts o;
                if (!classify_look(fd, name, &o, error))
                        return FALSE;
                if (changed(pe, &o, linked))
                        return drift(pe->path, error);
                if (o.exists && S_ISDIR(o.mode) && (pe->how == HOW_EXCHANGE || pe->how == HOW_REMOVE) &&
                    !recheck_children(p, fd, name, pe->path, linked, error))
                        return FALSE;
        }
        return TRUE;
}
