/* host-service/env_real_objects_dir.c - the shared store as a directory. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
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
        return atomic_file_write_at(fd, strrchr(path, '/') + 1, bytes, len, 0444, error);
}

static gboolean dir_has(ObjectStore *s, const char *key, gboolean *ret, GCancellable *cancellable,
                        GError **error)
{
        g_autofree char *path = g_build_filename(s->name, key, NULL);

        if (g_cancellable_set_error_if_cancelled(cancellable, error))
                return FALSE;
        if (access(path, F_OK) < 0 && errno != ENOENT && errno != ENOTDIR)
                return moult_error_errno(error, errno, "looking for %s", path);
        *ret = access(path, F_OK) == 0;
        return TRUE;
}

static void dir_free(ObjectStore *s)
{
        g_free(s->name);
        g_free(s);
}

static const struct object_store_ops ops = {dir_get, dir_put, dir_has, dir_free};

ObjectStore *object_store_dir_new(const char *path)
{
        DirStore *d = g_new0(DirStore, 1);

        d->base.ops = &ops;
        d->base.name = g_strdup(path);
        return &d->base;
}
