/* host-service/env_real_objects_dir.c - the shared store as a directory. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/object_store.h"

typedef struct {
        ObjectStore base; /* base.name is the directory */
} DirStore;

static GBytes *dir_get(ObjectStore *s, const char *key, gsize max_bytes, GCancellable *cancellable,
                       GError **error)
{
        g_autofree char *path = g_build_filename(s->name, key, NULL);

        if (g_cancellable_set_error_if_cancelled(cancellable, error))
                return NULL;
        return fd_read_file_at(AT_FDCWD, path, max_bytes, error);
}

/* A temporary name beside it, synced, renamed: a reader sees all of it or nothing. */
static gboolean dir_put(ObjectStore *s, const char *key, GBytes *data, GCancellable *cancellable,
                        GError **error)
{
        g_autofree char *path = g_build_filename(s->name, key, NULL), *dir = g_path_get_dirname(path);
        scoped_fd int fd = -1;
        gsize len;
        const void *bytes = g_bytes_get_data(data, &len);
        int fault = fault_point("object-put");

        if (g_cancellable_set_error_if_cancelled(cancellable, error))
                return FALSE;
        if (fault || g_mkdir_with_parents(dir, 0755) < 0)
                return moult_error_errno(error, fault ? fault : errno, "making the directory %s", dir);
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return moult_error_errno(error, errno, "opening the directory %s", dir);
        return atomic_file_write_shared_at(fd, strrchr(path, '/') + 1, bytes, len, 0444, error);
}

static gboolean dir_has(ObjectStore *s, const char *key, gboolean *ret, gint64 *ret_modified_s,
                        GCancellable *cancellable, GError **error)
{
        g_autofree char *path = g_build_filename(s->name, key, NULL);
        struct stat st;
        gboolean there;

        if (g_cancellable_set_error_if_cancelled(cancellable, error))
                return FALSE;
        there = stat(path, &st) == 0;
        if (!there && errno != ENOENT && errno != ENOTDIR)
                return moult_error_errno(error, errno, "looking for %s", path);
        if (there && ret_modified_s)
                *ret_modified_s = st.st_mtim.tv_sec;
        *ret = there;
        return TRUE;
}

/* Without a time of ours: a file server takes its own. */
static gboolean dir_touch(ObjectStore *s, const char *key, gboolean *ret, GCancellable *cancellable,
                          GError **error)
{
        g_autofree char *path = g_build_filename(s->name, key, NULL);

        if (g_cancellable_set_error_if_cancelled(cancellable, error))
                return FALSE;
        *ret = utimensat(AT_FDCWD, path, NULL, 0) == 0;
        /* Another user's: a put replaces it, if the directory lets us. */
        if (!*ret && errno != ENOENT && errno != ENOTDIR && errno != EACCES && errno != EPERM)
                return moult_error_errno(error, errno, "touching %s", path);
        return TRUE;
}

/* Who has removed it forgets that it was there, so it must not come back. If it is gone already the directory
 * is synced all the same: whoever has removed it may have died before that. */
static gboolean dir_remove(ObjectStore *s, const char *key, GCancellable *cancellable, GError **error)
{
        g_autofree char *path = g_build_filename(s->name, key, NULL), *parent = g_path_get_dirname(path);
        scoped_fd int dir = -1;

        if (g_cancellable_set_error_if_cancelled(cancellable, error))
                return FALSE;
        dir = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0 && (errno == ENOENT || errno == ENOTDIR))
                return TRUE;
        if (dir < 0)
                return moult_error_errno(error, errno, "opening the directory %s", parent);
        if (unlinkat(dir, strrchr(path, '/') + 1, 0) < 0 && errno != ENOENT)
                return moult_error_errno(error, errno, "removing %s", path);
        if (!fault_skip("object-remove.skip-dirsync") && fsync(dir) < 0)
                return moult_error_errno(error, errno, "syncing the directory %s", parent);
        return TRUE;
}

/* The clock of a file server shows in the times that it gives to files. */
static gboolean dir_now(ObjectStore *s, gint64 *ret_s, GCancellable *cancellable, GError **error)
{
        g_autofree char *id = g_uuid_string_random(), *path = g_strdup_printf("%s/.now-%s", s->name, id);
        struct stat st;
        gboolean ok;
        int e;

        if (g_cancellable_set_error_if_cancelled(cancellable, error))
                return FALSE;
        if (g_mkdir_with_parents(s->name, 0755) < 0)
                return moult_error_errno(error, errno, "making the directory %s", s->name);
        scoped_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return moult_error_errno(error, errno, "making %s, to see the time there", path);
        ok = futimens(fd, NULL) == 0 && fstat(fd, &st) == 0;
        e = errno;
        unlink(path);
        if (!ok)
                return moult_error_errno(error, e, "seeing the time of %s", path);
        *ret_s = st.st_mtim.tv_sec;
        return TRUE;
}

/* The layout has two levels of directories; what is deeper is not ours. */
static gboolean list_below(const char *root, const char *key, guint levels, GPtrArray *entries,
                           GCancellable *cancellable, GError **error)
{
        g_autofree char *path = g_build_filename(root, key, NULL);
        g_autoptr(GError) why = NULL;
        g_autoptr(GDir) dir = g_dir_open(path, 0, &why);
        const char *name;

        if (g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT))
                return TRUE; /* no push has made it, or it went meanwhile */
        if (!dir) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "%s", why->message);
                return FALSE;
        }
        while ((name = g_dir_read_name(dir))) {
                g_autofree char *file = g_build_filename(path, name, NULL),
                                *below = g_strconcat(key, name, NULL),
                                *folder = g_strconcat(below, "/", NULL);
                struct stat st;

                if (g_cancellable_set_error_if_cancelled(cancellable, error))
                        return FALSE;
                if (lstat(file, &st) < 0) {
                        if (errno == ENOENT)
                                continue;
                        return moult_error_errno(error, errno, "looking at %s", file);
                }
                if (S_ISREG(st.st_mode))
                        g_ptr_array_add(entries,
                                        object_entry_new(below, (guint64)st.st_size, st.st_mtim.tv_sec));
                else if (S_ISDIR(st.st_mode) && levels > 1 &&
                         !list_below(root, folder, levels - 1, entries, cancellable, error))
                        return FALSE;
        }
        return TRUE;
}

static GPtrArray *dir_list(ObjectStore *s, const char *prefix, GCancellable *cancellable, GError **error)
{
        g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func(object_entry_free);

        return list_below(s->name, prefix, 2, entries, cancellable, error) ? g_steal_pointer(&entries) : NULL;
}

static void dir_free(ObjectStore *s)
{
        g_free(s->name);
        g_free(s);
}

static const struct object_store_ops ops = {dir_get,    dir_put, dir_has,  dir_touch,
                                            dir_remove, dir_now, dir_list, dir_free};

ObjectStore *object_store_dir_new(const char *path)
{
        DirStore *d = g_new0(DirStore, 1);

        d->base.ops = &ops;
        d->base.name = g_strdup(path);
        return &d->base;
}
