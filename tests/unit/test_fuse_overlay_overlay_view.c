/* tests/unit/test_fuse_overlay_overlay_view.c - what the kernel's overlayfs makes of composed trees, after
 * random histories of releases: as if each had been applied to a tree that can be written. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/remove_tree.h"
#include "fuse-overlay/target_tree.h"
#include "tests/support/targets.h"
#include "tests/support/tempdir.h"

#define HISTORIES 12u
#define RELEASES  5u

static const char *const paths[] = {"a", "a/a", "a/a/a", "a/a/b", "a/b",   "a/b/a", "a-b",
                                    "b", "b/a", "b/a/a", "b/b",   "b/b/c", "c",     "c/\n"};
static const struct target_merge whole = {"usr", MOULT__TARGET__REACH__REACH_TREE, "usr"};

/* Mounts of these tests are seen by nobody else, and go with the process. */
static void own_mounts(void)
{
        if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                cr_skip_test("needs root and a mount namespace of its own");
}
TestSuite(overlay_view, .timeout = 120, .init = own_mounts);

static char kind_at(int fd, const char *path)
{
        struct stat st;
        if (fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return '-';
        return S_ISDIR(st.st_mode) ? 'd' : S_ISREG(st.st_mode) ? 'f' : S_ISLNK(st.st_mode) ? 'l' : '?';
}

static void make(int fd, const char *path, char kind, const char *text)
{
        if (kind == 'd') {
                cr_assert_eq(mkdirat(fd, path, 0755), 0);
        } else if (kind == 'l') {
                cr_assert_eq(symlinkat(text, fd, path), 0);
        } else {
                scoped_fd int file = openat(fd, path, O_WRONLY | O_CREAT | O_EXCL, 0644);
                cr_assert(fd_write_all(file, text, strlen(text), path, NULL));
        }
}

static int name_compare(gconstpointer a, gconstpointer b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "d a\nf a/b TEXT\n" and so on, by listing: what is listed and cannot be looked at is "- PATH". */
static void describe(int fd, const char *prefix, GString *to)
{
        int copy = openat(fd, *prefix != '\0' ? prefix : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fdopendir(copy);
        cr_assert_not_null(dir);
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        struct dirent *de;
        while ((de = readdir(dir)) != NULL)
                if (!g_str_equal(de->d_name, ".") && !g_str_equal(de->d_name, ".."))
                        g_ptr_array_add(names, *prefix != '\0' ? g_strconcat(prefix, "/", de->d_name, NULL)
                                                               : g_strdup(de->d_name));
        closedir(dir);
        g_ptr_array_sort(names, name_compare);
        for (guint i = 0; i < names->len; i++) {
                const char *path = names->pdata[i];
                char kind = kind_at(fd, path), text[64] = "";
                if (kind == 'f') {
                        scoped_fd int file = openat(fd, path, O_RDONLY | O_CLOEXEC);
                        (void)!read(file, text, sizeof text - 1);
                } else if (kind == 'l') {
                        (void)!readlinkat(fd, path, text, sizeof text - 1);
                }
                g_string_append_printf(to, "%c %s %s\n", kind, path, text);
                if (kind == 'd')
                        describe(fd, path, to);
        }
}

struct world {
        TempDir *dir;
        int original, live; /* two equal trees; releases are applied to the second */
        ObjectStore *store;
        Target *target;
        GRand *rand;
};

static gboolean has_place(struct world *w, const char *path)
{
        g_autofree char *dir = g_path_get_dirname(path);
        return kind_at(w->live, dir) == 'd';
}

static void begin(struct world *w, guint32 seed)
{
        g_autoptr(GError) error = NULL;
        w->dir = tempdir_new();
        w->rand = g_rand_new_with_seed(seed);
        static const char *const names[] = {"original", "live", "merged", "state"};
        for (guint i = 0; i < G_N_ELEMENTS(names); i++)
                cr_assert_eq(mkdirat(w->dir->fd, names[i], 0755), 0);
        w->original = openat(w->dir->fd, "original", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        w->live = openat(w->dir->fd, "live", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        scoped_fd int state = openat(w->dir->fd, "state", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        w->store = object_store_open(state, &error);
        cr_assert_not_null(w->store);
        for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
                char kind = "-ddfl"[g_rand_int_range(w->rand, 0, 5)];
                if (kind == '-' || !has_place(w, paths[i]))
                        continue;
                make(w->original, paths[i], kind, "original");
                make(w->live, paths[i], kind, "original");
        }
}

static void end(struct world *w)
{
        target_unref(w->target);
        object_store_free(w->store);
        close(w->original);
        close(w->live);
        g_rand_free(w->rand);
        tempdir_free(w->dir);
}

/* What a plan tells: sometimes what the original has there, never where the target before would be seen. */
static void tell_original(struct world *w, struct target_change *change, const char *path)
{
        struct target_item item;
        if (g_rand_boolean(w->rand) || (w->target != NULL && (target_lookup(w->target, change->path, &item) ||
                                                              target_hides(w->target, change->path))))
                return;
        char kind = kind_at(w->original, path);
        change->original = kind == '-'   ? MOULT__TARGET__ORIGINAL__ORIGINAL_ABSENT
                           : kind == 'd' ? MOULT__TARGET__ORIGINAL__ORIGINAL_DIRECTORY
                                         : MOULT__TARGET__ORIGINAL__ORIGINAL_OTHER;
}

static void apply_one(struct world *w, Changes *c, const char *path, const char *text)
{
        g_autofree char *full = g_strconcat("usr/", path, NULL);
        char now = kind_at(w->live, path), wanted = "-dfl....."[g_rand_int_range(w->rand, 0, 9)];
        struct target_change *change = NULL;
        if (wanted == '.' || (wanted != '-' && !has_place(w, path)) || (wanted == '-' && now == '-'))
                return;
        if (!(wanted == 'd' && now == 'd')) {
                cr_assert(remove_tree(w->live, path, NULL));
                if (wanted != '-')
                        make(w->live, path, wanted, text);
        }
        switch (wanted) {
        case '-':
                change = changes_delete(c, full);
                break;
        case 'd':
                change = changes_directory(c, full);
                break;
        case 'l':
                change = changes_add(c, MOULT__ENTRY_TYPE__ENTRY_SYMLINK, full, text);
                break;
        default:
                change = changes_file(c, full, text);
        }
        tell_original(w, change, path);
}

static void expect_same_view(struct world *w, guint32 seed, guint64 release)
{
        char id[TARGET_ID_LENGTH + 1];
        target_id(w->target, &whole, id);
        g_autofree char *options =
                g_strdup_printf("lowerdir=%s/state/target/trees/%s:%s/"
                                "original,index=off,metacopy=off,redirect_dir=nofollow,xino=off",
                                w->dir->path, id, w->dir->path);
        g_autofree char *place = tempdir_path(w->dir, "merged");
        if (mount("overlay", place, "overlay", MS_RDONLY, options) < 0) {
                cr_assert_eq(errno, ENODEV, "mounting overlayfs: %s", g_strerror(errno));
                cr_skip_test("this kernel has no overlayfs");
        }
        g_autoptr(GString) have = g_string_new(NULL), want = g_string_new(NULL);
        scoped_fd int merged = openat(w->dir->fd, "merged", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        describe(merged, "", have);
        describe(w->live, "", want);
        g_autofree char *items = targets_text(w->target);
        g_autoptr(GString) original = g_string_new(NULL);
        describe(w->original, "", original);
        umount2(place, MNT_DETACH);
        cr_assert_str_eq(have->str, want->str,
                         "seed %u release %u: seen:\n%s\nwanted:\n%s\nitems:\n%s\noriginal:\n%s", seed,
                         (guint)release, have->str, want->str, items, original->str);
}

Test(overlay_view, any_history_is_seen_as_if_it_had_been_applied)
{
        for (guint32 seed = 0; seed < HISTORIES; seed++) {
                struct world w = {0};
                begin(&w, seed);
                for (guint64 n = 1; n <= RELEASES; n++) {
                        g_autoptr(Changes) c = changes_new();
                        g_autoptr(GError) error = NULL;
                        g_autofree char *text = g_strdup_printf("release %u", (guint)n);
                        for (guint i = 0; i < G_N_ELEMENTS(paths); i++)
                                apply_one(&w, c, paths[i], text);
                        Target *next = targets_compose(w.target, n, c);
                        target_unref(w.target);
                        w.target = next;
                        for (guint i = 0; i < target_size(next); i++) {
                                struct target_item item = target_get(next, i);
                                if (item.entry->type == MOULT__ENTRY_TYPE__ENTRY_FILE &&
                                    item.release->generation == n && !object_store_has(w.store, item.entry))
                                        targets_put_object(w.store, item.entry, text, w.dir->fd);
                        }
                        cr_assert(target_tree_make(w.store, next, &whole, w.original, NULL, &error), "%s",
                                  error != NULL ? error->message : "");
                        expect_same_view(&w, seed, n);
                }
                end(&w);
        }
}
