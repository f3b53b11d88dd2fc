/* fuse-overlay/originals.c - clones of what the merges cover, in a private mount of our own (RUN_DIR). */
#include "fuse-overlay/originals.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "common/mounts.h"
#include "fuse-overlay/mount_api.h"

#define RUN_SOURCE "moult-run"
#define NAME_HEX   32u
#define NEXT       ".next"

struct Originals {
        char *run_dir;
        int run, originals, staging; /* O_PATH of the mount's root, O_RDONLY of the two folders */
        guint64 mount_id;            /* of RUN_DIR */
        guint staged;
};

static char *name_of(const char *path)
{
        char *hex = g_compute_checksum_for_string(G_CHECKSUM_SHA256, path, -1);
        hex[NAME_HEX] = '\0';
        return hex;
}

void originals_free(Originals *o)
{
        if (o == NULL)
                return;
        scoped_fd_close(&o->run);
        scoped_fd_close(&o->originals);
        scoped_fd_close(&o->staging);
        g_free(o->run_dir);
        g_free(o);
}

/* O_PATH of RUN_DIR if our mount is there, else -1; *ret_error only for what went wrong. */
static int find_run(const char *run_dir, GError **error)
{
        scoped_fd int fd = open(run_dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
                if (errno != ENOENT)
                        moult_error_errno(error, errno, "opening %s", run_dir);
                return -1;
        }
        g_autoptr(MountTable) table = mount_table_load(error);
        if (table == NULL)
                return -1;
        const struct mount *m = mount_table_find(table, mount_api_id(fd));
        return m != NULL && g_str_equal(m->source, RUN_SOURCE) ? g_steal_fd(&fd) : -1;
}

static int open_folder(int run, const char *name, GError **error)
{
        if (mkdirat(run, name, 0700) != 0 && errno != EEXIST) {
                moult_error_errno(error, errno, "making the folder %s for mounts of our own", name);
                return -1;
        }
        int fd = openat(run, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                moult_error_errno(error, errno, "opening the folder %s of mounts of our own", name);
        return fd;
}

static Originals *originals_at(const char *run_dir, int run, GError **error)
{
        g_autoptr(Originals) o = g_new(Originals, 1);
        *o = (Originals){.run_dir = g_strdup(run_dir), .run = run, .originals = -1, .staging = -1};
        o->mount_id = mount_api_id(run);
        o->originals = open_folder(run, "originals", error);
        if (o->originals < 0)
                return NULL;
        o->staging = open_folder(run, "staging", error);
        return o->staging < 0 ? NULL : g_steal_pointer(&o);
}

Originals *originals_find(const char *run_dir, GError **error)
{
        int run = find_run(run_dir, error);
        return run < 0 ? NULL : originals_at(run_dir, run, error);
}

static gboolean make_run(const char *run_dir, GError **error)
{
        if (g_mkdir_with_parents(run_dir, 0700) != 0)
                return moult_error_errno(error, errno, "making %s", run_dir);
        scoped_fd int place = open(run_dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (place < 0)
                return moult_error_errno(error, errno, "opening %s", run_dir);
        const struct mount_option options[] = {{"mode", "0700"}, {"size", "1m"}};
        scoped_fd int mount = mount_api_make("tmpfs", RUN_SOURCE, options, G_N_ELEMENTS(options),
                                             MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, error);
        /* What is mounted on a shared mount becomes shared: so private again before anything is put into it.
         */
        return mount >= 0 && mount_api_move(mount, place, MOUNT_ON_TOP, run_dir, error);
}

Originals *originals_open(const char *run_dir, GError **error)
{
        g_autoptr(GError) local = NULL;
        int run = find_run(run_dir, &local);
        if (run < 0 && local == NULL && make_run(run_dir, &local))
                run = find_run(run_dir, &local);
        if (run < 0) {
                if (local != NULL)
                        g_propagate_error(error, g_steal_pointer(&local));
                else
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO,
                                    "the mount that was just made at %s is not there", run_dir);
                return NULL;
        }
        if (!mount_api_set_propagation(run, MS_PRIVATE, FALSE, run_dir, error)) {
                close(run);
                return NULL;
        }
        return originals_at(run_dir, run, error);
}

/* O_PATH of @name, with what is mounted there; -1: not there. */
static int open_name(int folder, const char *name)
{
        return openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

static gboolean is_mounted(const Originals *o, int fd)
{
        guint64 id = mount_api_id(fd);
        return id != 0 && id != o->mount_id;
}

/* Takes off all that is mounted at @name, down to @leave mounts. @quietly: no other place follows. */
static gboolean clear_name(const Originals *o, int folder, const char *name, guint leave, gboolean quietly,
                           GError **error)
{
        for (;;) {
                scoped_fd int fd = open_name(folder, name);
                if (fd < 0 || !is_mounted(o, fd))
                        return TRUE;
                g_autoptr(MountTable) table = mount_table_load(error);
                if (table == NULL)
                        return FALSE;
                guint n = 0;
                for (const struct mount *m = mount_table_find(table, mount_api_id(fd));
                     m != NULL && m->id != o->mount_id; m = mount_table_find(table, m->parent_id))
                        n++;
                if (n <= leave)
                        return TRUE;
                if (quietly && !mount_api_set_propagation(fd, MS_PRIVATE, TRUE, name, error))
                        return FALSE;
                if (!mount_api_detach(fd, name, error))
                        return FALSE;
        }
}

static gboolean remove_name(int folder, const char *name, GError **error)
{
        if (unlinkat(folder, name, 0) == 0 || errno == ENOENT)
                return TRUE;
        if (unlinkat(folder, name, AT_REMOVEDIR) == 0)
                return TRUE;
        return moult_error_errno(error, errno, "removing %s from the folder of mounts of our own", name);
}

/* A mount point of the same type as @like. */
static int make_point(int folder, const char *name, gboolean directory, GError **error)
{
        int made = directory ? mkdirat(folder, name, 0700) : mknodat(folder, name, S_IFREG | 0600, 0);
        if (made != 0 && errno != EEXIST) {
                moult_error_errno(error, errno, "making a place for a mount of our own");
                return -1;
        }
        int fd = open_name(folder, name);
        if (fd < 0)
                moult_error_errno(error, errno, "opening a place for a mount of our own");
        return fd;
}

static gboolean is_directory(int fd)
{
        struct stat st;
        return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

static GPtrArray *names_in(int folder, GError **error)
{
        int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
        if (d == NULL) {
                moult_error_errno(error, errno, "listing the mounts of our own");
                if (fd >= 0)
                        close(fd);
                return NULL;
        }
        GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
        for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
                if (e->d_name[0] != '.')
                        g_ptr_array_add(names, g_strdup(e->d_name));
        closedir(d);
        return names;
}

/* NAME.next becomes NAME. */
static gboolean take_next(Originals *o, const char *name, const char *next, GError **error)
{
        scoped_fd int new = open_name(o->originals, next);
        if (new < 0)
                return moult_error_errno(error, errno, "opening a kept clone");
        if (!is_mounted(o, new))
                return remove_name(o->originals, next, error);
        if (!clear_name(o, o->originals, name, 0, TRUE, error))
                return FALSE;
        if (fault_point("merge-original") != 0)
                return moult_error_errno(error, EIO, "keeping the clone of an original");
        scoped_fd int place = make_point(o->originals, name, is_directory(new), error);
        return place >= 0 && mount_api_move(new, place, MOUNT_ON_TOP, "the folder of originals", error) &&
               remove_name(o->originals, next, error);
}

/* With a NAME.next, the exchange of the handle is carried on: what covers the old one was seen by the place
 * already. Without, what covers the handle is taken back, and the place follows: it had not been switched. */
static gboolean tidy_handle(Originals *o, const char *name, GError **error)
{
        g_autofree char *next = g_strconcat(name, NEXT, NULL);
        scoped_fd int fd = open_name(o->originals, next);
        if (fd >= 0)
                return take_next(o, name, next, error);
        return clear_name(o, o->originals, name, 1, FALSE, error);
}

gboolean originals_tidy(Originals *o, GError **error)
{
        g_autoptr(GPtrArray) staged = names_in(o->staging, error);
        g_autoptr(GPtrArray) kept = staged != NULL ? names_in(o->originals, error) : NULL;
        if (kept == NULL)
                return FALSE;
        for (guint i = 0; i < staged->len; i++)
                if (!clear_name(o, o->staging, staged->pdata[i], 0, TRUE, error) ||
                    !remove_name(o->staging, staged->pdata[i], error))
                        return FALSE;
        for (guint i = 0; i < kept->len; i++) {
                g_autofree char *name = g_strdup(kept->pdata[i]);
                if (g_str_has_suffix(name, NEXT))
                        name[strlen(name) - strlen(NEXT)] = '\0';
                if (!tidy_handle(o, name, error))
                        return FALSE;
        }
        return TRUE;
}

int originals_get(Originals *o, const char *path, GError **error)
{
        g_autofree char *name = name_of(path);
        scoped_fd int fd = open_name(o->originals, name);
        if (fd >= 0 && is_mounted(o, fd))
                return g_steal_fd(&fd);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                    "the original at /%s is not kept in %s any more: reboot to see it again", path,
                    o->run_dir);
        return -1;
}

guint64 originals_peer_group(Originals *o, const char *path)
{
        scoped_fd int fd = originals_get(o, path, NULL);
        if (fd < 0)
                return 0;
        g_autoptr(MountTable) table = mount_table_load(NULL);
        const struct mount *m = table != NULL ? mount_table_find(table, mount_api_id(fd)) : NULL;
        return m != NULL ? m->peer_group : 0;
}

static gboolean put_next(Originals *o, const char *next, int clone_fd, GError **error)
{
        scoped_fd int place = make_point(o->originals, next, is_directory(clone_fd), error);
        return place >= 0 && mount_api_move(clone_fd, place, MOUNT_ON_TOP, "the folder of originals", error);
}

gboolean originals_install(Originals *o, const char *path, int clone_fd, GError **error)
{
        g_autofree char *name = name_of(path);
        g_autofree char *next = g_strconcat(name, NEXT, NULL);
        return put_next(o, next, clone_fd, error) && take_next(o, name, next, error);
}

gboolean originals_keep(Originals *o, const char *path, int place_fd, GError **error)
{
        scoped_fd int clone = mount_api_clone(place_fd, path, error);
        return clone >= 0 && mount_api_set_propagation(clone, MS_PRIVATE, FALSE, path, error) &&
               originals_install(o, path, clone, error);
}

gboolean originals_advance(Originals *o, const char *path, int handle_fd, int clone_fd, GError **error)
{
        g_autofree char *name = name_of(path);
        g_autofree char *next = g_strconcat(name, NEXT, NULL);
        if (!put_next(o, next, clone_fd, error))
                return FALSE;
        if (fault_point("merge-handle") != 0)
                return moult_error_errno(error, EIO, "exchanging the handle of /%s", path);
        /* Out of the group first: else the place would lose what it has just got. */
        return mount_api_set_propagation(handle_fd, MS_PRIVATE, FALSE, path, error) &&
               take_next(o, name, next, error);
}

gboolean originals_collect(Originals *o, GHashTable *keep, GError **error)
{
        g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        if (keep != NULL) {
                GHashTableIter iter;
                gpointer path;
                g_hash_table_iter_init(&iter, keep);
                while (g_hash_table_iter_next(&iter, &path, NULL))
                        g_hash_table_add(names, name_of(path));
        }
        g_autoptr(GPtrArray) kept = names_in(o->originals, error);
        if (kept == NULL)
                return FALSE;
        for (guint i = 0; i < kept->len; i++)
                if (!g_hash_table_contains(names, kept->pdata[i]) &&
                    (!clear_name(o, o->originals, kept->pdata[i], 0, TRUE, error) ||
                     !remove_name(o->originals, kept->pdata[i], error)))
                        return FALSE;
        return TRUE;
}

int originals_stage(Originals *o, gboolean directory, GError **error)
{
        g_autofree char *name = g_strdup_printf("%u", o->staged++);
        return make_point(o->staging, name, directory, error);
}
