/* tests/support/tempdir.c - a directory that is there for one test. */
#include "tests/support/tempdir.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

#include "common/fd.h"

TempDir *tempdir_new(void)
{
        g_autoptr(GError) error = NULL;
        TempDir *t = g_new0(TempDir, 1);
        t->path = g_dir_make_tmp("moult-test-XXXXXX", &error);
        if (t->path == NULL)
                g_error("%s", error->message);
        t->fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (t->fd < 0)
                g_error("cannot open %s", t->path);
        return t;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
        return remove(path);
}

void tempdir_free(TempDir *t)
{
        if (t == NULL)
                return;
        close(t->fd);
        nftw(t->path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
        g_free(t->path);
        g_free(t);
}

void tempdir_put(TempDir *t, const char *name, const void *data, size_t len)
{
        g_autoptr(GError) error = NULL;
        scoped_fd int fd = openat(t->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0 || !fd_write_all(fd, data, len, name, &error))
                g_error("cannot write %s/%s", t->path, name);
}

char *tempdir_path(const TempDir *t, const char *name)
{
        return g_build_filename(t->path, name, NULL);
}
