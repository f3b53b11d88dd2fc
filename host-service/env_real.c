/* host-service/env_real.c - the real clock, randomness, state directory and worker threads. */
#include "host-service/env.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/fd.h"
#include "host-service/env_real_private.h"

#define CATALOGUE "catalogue.db"

static gint64 wall_us(gpointer self)
{
        return g_get_real_time();
}

static gint64 monotonic_us(gpointer self)
{
        return g_get_monotonic_time();
}

static GSource *timer_new(gpointer self, guint delay_ms)
{
        return g_timeout_source_new(delay_ms);
}

static const struct host_clock_ops clock_ops = {wall_us, monotonic_us, timer_new};

static void random_fill(gpointer self, void *buf, gsize len)
{
        for (gsize done = 0; done < len;) {
                ssize_t n = getrandom((char *)buf + done, len - done, 0);

                if (n > 0)
                        done += (gsize)n;
                else if (errno != EINTR)
                        g_error("getrandom: %s", g_strerror(errno)); /* no kernel that we run on does this */
        }
}

static const struct host_random_ops random_ops = {random_fill};

static GBytes *disk_read(gpointer self, const char *name, gsize max_bytes, GError **error)
{
        struct env_real *r = self;

        return fd_read_file_at(r->state_fd, name, max_bytes, error);
}

static gboolean disk_write(gpointer self, const char *name, const void *data, gsize len, mode_t mode,
                           GError **error)
{
        struct env_real *r = self;

        return atomic_file_write_at(r->state_fd, name, data, len, mode, error);
}

static gboolean disk_remove(gpointer self, const char *name, GError **error)
{
        struct env_real *r = self;

        if (unlinkat(r->state_fd, name, 0) < 0 && errno != ENOENT)
                return moult_error_errno(error, errno, "removing %s/%s", r->state_dir, name);
        if (fsync(r->state_fd) < 0)
                return moult_error_errno(error, errno, "syncing %s", r->state_dir);
        return TRUE;
}

static gboolean disk_usage(gpointer self, struct host_disk_usage *ret, GError **error)
{
        struct env_real *r = self;
        struct statvfs st;

        if (fstatvfs(r->state_fd, &st) < 0)
                return moult_error_errno(error, errno, "looking at the file system of %s", r->state_dir);
        ret->size_bytes = (guint64)st.f_blocks * st.f_frsize;
        ret->free_bytes = (guint64)st.f_bavail * st.f_frsize;
        return TRUE;
}

static const struct host_disk_ops disk_ops = {disk_read, disk_write, disk_remove, disk_usage};

struct work {
        host_work_func func;
        gpointer data;
        host_work_done done;
        gpointer user;
};

static void work_run(GTask *task, gpointer source, gpointer task_data, GCancellable *cancellable)
{
        struct work *w = task_data;
        GError *error = NULL;
        gpointer result = w->func(w->data, cancellable, &error);

        if (error)
                g_task_return_error(task, error);
        else
                g_task_return_pointer(task, result, NULL);
}

static void work_finished(GObject *source, GAsyncResult *res, gpointer user)
{
        struct work *w = g_task_get_task_data(G_TASK(res));
        g_autoptr(GError) error = NULL;
        gpointer result = g_task_propagate_pointer(G_TASK(res), &error);

        w->done(result, error, w->user);
}

static void worker_run(gpointer self, host_work_func func, gpointer data, GCancellable *cancellable,
                       host_work_done done, gpointer user)
{
        struct work *w = g_new0(struct work, 1);
        g_autoptr(GTask) task = g_task_new(NULL, cancellable, work_finished, NULL);

        w->func = func;
        w->data = data;
        w->done = done;
        w->user = user;
        g_task_set_task_data(task, w, g_free);
        /* What the work returned is handed on also if it was cancelled at the very end: somebody must free
         * it. */
        g_task_set_check_cancellable(task, FALSE);
        g_task_run_in_thread(task, work_run);
}

static const struct host_worker_ops worker_ops = {worker_run};

/* A QEMU that does not run as root opens a pack by its path: it passes through the state directory, where all
 * else is ours alone, and reads what is in packs/. */
#define STATE_MODE 0711
#define PACKS_MODE 0755

static int open_dir(const char *path, mode_t mode, GError **error)
{
        gboolean is_new = !g_file_test(path, G_FILE_TEST_EXISTS);
        scoped_fd int fd = -1;
        struct stat st;

        if (g_mkdir_with_parents(path, (gint)mode) < 0) {
                moult_error_errno(error, errno, "making the directory %s", path);
                return -1;
        }
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
                moult_error_errno(error, errno, "opening the directory %s", path);
                return -1;
        }
        if (st.st_uid != geteuid() || (st.st_mode & 022) != 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                            "directory %s can be written by others than the user that moultd runs as; it "
                            "holds what "
                            "guests are given to run: correct its owner and mode (chmod go-w)",
                            path);
                return -1;
        }
        /* Whatever the umask is. What was there already is as its administrator wants it. */
        if (is_new && fchmod(fd, mode) < 0) {
                moult_error_errno(error, errno, "setting the mode of the directory %s", path);
                return -1;
        }
        return g_steal_fd(&fd);
}

/* SQLite would make the catalogue readable for everybody; its -wal and -shm files take its mode. */
static gboolean guard_catalogue(const struct env_real *r, GError **error)
{
        static const char *const files[] = {CATALOGUE, CATALOGUE "-wal", CATALOGUE "-shm"};
        scoped_fd int fd = openat(r->state_fd, CATALOGUE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0)
                return moult_error_errno(error, errno, "opening %s", r->catalogue_path);
        for (guint i = 0; i < G_N_ELEMENTS(files); i++)
                if (fchmodat(r->state_fd, files[i], 0600, 0) < 0 && errno != ENOENT)
                        return moult_error_errno(error, errno, "setting the mode of %s/%s", r->state_dir,
                                                 files[i]);
        return TRUE;
}

struct host_env *host_env_real_new(const char *state_dir, GError **error)
{
        struct env_real *r = g_new0(struct env_real, 1);

        r->state_fd = r->packs_fd = r->lock_fd = -1;
        r->env.self = r;
        r->env.clock = &clock_ops;
        r->env.random = &random_ops;
        r->env.channel = &env_real_channel_ops;
        r->env.disk = &disk_ops;
        r->env.store = &env_real_store_ops;
        r->env.worker = &worker_ops;
#ifdef MOULT_LIBVIRT
        r->env.virt = &env_real_virt_ops;
#endif
        r->env.context = g_main_context_ref_thread_default();
        r->state_dir = g_canonicalize_filename(state_dir, NULL);
        r->packs_dir = g_build_filename(r->state_dir, "packs", NULL);
        r->catalogue_path = g_build_filename(r->state_dir, CATALOGUE, NULL);
        r->env.catalogue_path = r->catalogue_path;
        r->state_fd = open_dir(r->state_dir, STATE_MODE, error);
        if (r->state_fd < 0)
                goto fail;
        r->lock_fd = openat(r->state_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (r->lock_fd < 0) {
                moult_error_errno(error, errno, "opening %s/lock", r->state_dir);
                goto fail;
        }
        if (flock(r->lock_fd, LOCK_EX | LOCK_NB) < 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "the state directory %s is in use by another moultd; stop it first, or choose "
                            "another "
                            "--state-dir",
                            r->state_dir);
                goto fail;
        }
        r->packs_fd = open_dir(r->packs_dir, PACKS_MODE, error);
        if (r->packs_fd < 0 || !guard_catalogue(r, error))
                goto fail;
        return &r->env;
fail:
        host_env_real_free(&r->env);
        return NULL;
}

void host_env_real_set_immutable(struct host_env *e, gboolean on)
{
        struct env_real *r = e->self;

        r->immutable = on;
}

void host_env_real_free(struct host_env *e)
{
        struct env_real *r;

        if (!e)
                return;
        r = e->self;
        g_main_context_unref(e->context);
        scoped_fd_close(&r->packs_fd);
        scoped_fd_close(&r->lock_fd);
        scoped_fd_close(&r->state_fd);
        g_clear_pointer(&r->virt_hosts, g_hash_table_unref);
        g_free(r->state_dir);
        g_free(r->packs_dir);
        g_free(r->catalogue_path);
        g_free(r);
}
