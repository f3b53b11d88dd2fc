/* tests/unit/test_fuse_overlay_target_tree.c - what overlayfs gets is what the target says, and comes whole.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "fuse-overlay/target_tree.h"
#include "tests/support/targets.h"
#include "tests/support/tempdir.h"

static void init(void)
{
        if (geteuid() != 0)
                cr_skip_test("needs root: devices, owners and trusted attributes");
}
TestSuite(target_tree, .timeout = 120, .init = init);

static const struct target_merge usr = {"usr", MOULT__TARGET__REACH__REACH_TREE, "usr"};

/* A state directory, and an original beside it. */
struct world {
        TempDir *dir;
        ObjectStore *store;
        int original;
};

static struct world world_new(void)
{
        struct world w = {.dir = tempdir_new()};
        g_autoptr(GError) error = NULL;
        cr_assert_eq(mkdirat(w.dir->fd, "state", 0700), 0);
        cr_assert_eq(mkdirat(w.dir->fd, "original", 0755), 0);
        scoped_fd int state = openat(w.dir->fd, "state", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        w.store = object_store_open(state, &error);
        cr_assert_not_null(w.store);
        w.original = openat(w.dir->fd, "original", O_PATH | O_DIRECTORY | O_CLOEXEC);
        return w;
}

static void world_free(struct world *w)
{
        close(w->original);
        object_store_free(w->store);
        tempdir_free(w->dir);
}

static bool make(struct world *w, const Target *t, GError **error)
{
        return target_tree_make(w->store, t, &usr, w->original, NULL, error);
}

/* The text of the error, or "". */
static const char *text_of(const GError *error)
{
        return error != NULL ? error->message : "";
}

static struct stat look(struct world *w, const Target *t, const char *path)
{
        g_autoptr(GError) error = NULL;
        scoped_fd int fd = target_tree_open(w->store, t, &usr, &error);
        cr_assert_geq(fd, 0, "%s", text_of(error));
        struct stat st = {0};
        if (fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
                st.st_mode = 0;
        return st;
}

static void put_objects(struct world *w, const Target *t, const char *text)
{
        for (guint i = 0; i < target_size(t); i++) {
                struct target_item item = target_get(t, i);
                if (item.entry->type == MOULT__ENTRY_TYPE__ENTRY_FILE &&
                    !object_store_has(w->store, item.entry))
                        targets_put_object(w->store, item.entry, text, w->dir->fd);
        }
}

Test(target_tree, holds_every_type_with_its_metadata)
{
        struct world w = world_new();
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "usr/bin/tool", "text");
        struct target_change *setuid = changes_file(c, "usr/bin/su", "text");
        changes_entry(setuid)->mode = 04755;
        changes_entry(setuid)->gid = 42;
        changes_directory(c, "usr/new");
        changes_add(c, MOULT__ENTRY_TYPE__ENTRY_SYMLINK, "usr/new/link", "../bin/tool");
        changes_add(c, MOULT__ENTRY_TYPE__ENTRY_FIFO, "usr/new/pipe", "");
        struct target_change *dev = changes_add(c, MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE, "usr/new/null", "");
        changes_entry(dev)->dev_major = 1;
        changes_entry(dev)->dev_minor = 3;
        changes_file(c, "usr/new/with\nnewline", "text");
        cr_assert_eq(mkdirat(w.original, "bin", 0751), 0);
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        put_objects(&w, t, "text");

        g_autoptr(GError) error = NULL;
        cr_assert(make(&w, t, &error), "%s", text_of(error));
        cr_expect(target_tree_check(w.store, t, &usr, &error), "%s", text_of(error));
        cr_expect_eq(look(&w, t, "bin").st_mode, S_IFDIR | 0751); /* the original's */
        cr_expect_eq(look(&w, t, "bin/su").st_mode, S_IFREG | 04755);
        cr_expect_eq(look(&w, t, "bin/su").st_gid, 42u);
        cr_expect_eq(look(&w, t, "new").st_mtim.tv_sec, 1700000000);
        cr_expect_eq(look(&w, t, "new/link").st_mode & S_IFMT, (mode_t)S_IFLNK);
        cr_expect_eq(look(&w, t, "new/pipe").st_mode, S_IFIFO | 0644);
        cr_expect_eq(look(&w, t, "new/null").st_rdev, makedev(1, 3));
        cr_expect_eq(look(&w, t, "new/with\nnewline").st_size, 4);
        /* Once more: what is there is good. */
        ino_t before = look(&w, t, "new").st_ino;
        cr_assert(make(&w, t, &error), "%s", text_of(error));
        cr_expect_eq(look(&w, t, "new").st_ino, before);
        world_free(&w);
}

Test(target_tree, a_whiteout_is_made_only_where_it_hides_something)
{
        struct world w = world_new();
        g_autoptr(Changes) c = changes_new();
        changes_delete(c, "usr/there");
        changes_delete(c, "usr/gone");
        changes_delete(c, "usr/no/such/directory");
        changes_delete(c, "usr/link/below");
        cr_assert_eq(mkdirat(w.original, "there", 0755), 0);
        cr_assert_eq(symlinkat("there", w.original, "link"), 0);
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        g_autoptr(GError) error = NULL;
        cr_assert(make(&w, t, &error), "%s", text_of(error));
        cr_expect_eq(look(&w, t, "there").st_mode & S_IFMT, (mode_t)S_IFCHR);
        cr_expect_eq(look(&w, t, "there").st_rdev, (dev_t)0);
        cr_expect_eq(look(&w, t, "gone").st_mode, 0u);
        cr_expect_eq(look(&w, t, "no").st_mode, 0u);
        cr_expect_eq(look(&w, t, "link").st_mode, 0u);
        cr_expect(target_tree_check(w.store, t, &usr, &error), "%s", text_of(error));
        world_free(&w);
}

Test(target_tree, a_directory_that_was_deleted_before_is_opaque)
{
        struct world w = world_new();
        g_autoptr(Changes) first = changes_new(), second = changes_new();
        changes_delete(first, "usr/d");
        changes_directory(second, "usr/d");
        changes_file(second, "usr/d/c", "text");
        g_autoptr(Target) one = targets_compose(NULL, 1, first), two = targets_compose(one, 2, second);
        put_objects(&w, two, "text");
        g_autoptr(GError) error = NULL;
        cr_assert(make(&w, two, &error), "%s", text_of(error));
        scoped_fd int fd = target_tree_open(w.store, two, &usr, &error);
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/d", fd);
        char value[2];
        cr_expect_eq(getxattr(path, "trusted.overlay.opaque", value, sizeof value), 1);
        cr_expect_eq(value[0], 'y');
        world_free(&w);
}

Test(target_tree, nothing_is_inherited_from_a_directory_above)
{
        struct world w = world_new();
        g_autoptr(Changes) c = changes_new();
        struct target_change *d = changes_directory(c, "usr/d");
        changes_entry(d)->mode = 02775;
        changes_entry(d)->gid = 42;
        /* user::rwx group::r-x mask::r-x other::r-x and user 7, as a default for what is made in it */
        static const guint8 acl[] = {2, 0, 0,   0,   1,   0,   7,  0, 255, 255, 255, 255, 2,   0,  7,
                                     0, 7, 0,   0,   0,   4,   0,  5, 0,   255, 255, 255, 255, 16, 0,
                                     7, 0, 255, 255, 255, 255, 32, 0, 5,   0,   255, 255, 255, 255};
        changes_xattr(c, d, "system.posix_acl_default", acl, sizeof acl);
        changes_directory(c, "usr/d/e");
        changes_add(c, MOULT__ENTRY_TYPE__ENTRY_FIFO, "usr/d/pipe", "");
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        g_autoptr(GError) error = NULL;
        if (!make(&w, t, &error))
                cr_skip_test("the file system of TMPDIR holds no ACLs");
        cr_expect_eq(look(&w, t, "d/e").st_mode, S_IFDIR | 0755);
        cr_expect_eq(look(&w, t, "d/e").st_gid, 0u);
        cr_expect_eq(look(&w, t, "d/pipe").st_gid, 0u);
        scoped_fd int fd = target_tree_open(w.store, t, &usr, &error);
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/d/e", fd);
        cr_expect_eq(getxattr(path, "system.posix_acl_default", NULL, 0), -1);
        cr_expect_eq(errno, ENODATA);
        world_free(&w);
}

Test(target_tree, items_on_another_mount_are_not_in_it)
{
        struct world w = world_new();
        g_autoptr(Changes) c = changes_new();
        changes_add(c, MOULT__ENTRY_TYPE__ENTRY_FIFO, "usr/a", "");
        changes_add(c, MOULT__ENTRY_TYPE__ENTRY_FIFO, "usr/local/b", "")->mount = "usr/local";
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        g_autoptr(GError) error = NULL;
        cr_assert(make(&w, t, &error), "%s", text_of(error));
        cr_expect_neq(look(&w, t, "a").st_mode, 0u);
        cr_expect_eq(look(&w, t, "local").st_mode, 0u);
        world_free(&w);
}

Test(target_tree, a_missing_object_leaves_nothing)
{
        struct world w = world_new();
        g_autoptr(Changes) c = changes_new();
        changes_directory(c, "usr/d");
        changes_file(c, "usr/d/file", "text");
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        g_autoptr(GError) error = NULL;
        cr_expect(!make(&w, t, &error));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND), "%s", text_of(error));
        scoped_fd int trees = openat(w.dir->fd, "state/target/trees", O_RDONLY | O_DIRECTORY);
        cr_assert_geq(trees, 0);
        cr_expect_eq(unlinkat(w.dir->fd, "state/target/trees", AT_REMOVEDIR), 0,
                     "something is left in trees");
        world_free(&w);
}

/* Every way in which a tree can be damaged is seen, and making it again gives a good one. */
Test(target_tree, damage_is_seen_and_made_good)
{
        static const struct {
                const char *name, *command;
        } cases[] = {
                {"nothing", "true"},
                {"a file is gone", "rm file"},
                {"a file is another one", "cp -p file x; rm file; echo other > file; rm x"},
                {"a whiteout is gone", "rm white"},
                {"a whiteout is a file", "rm white; touch white"},
                {"a mode", "chmod 0700 d"},
                {"a time", "touch d"},
                {"an owner", "chown -h 1 link"},
                {"a link's target", "ln -sfn other link"},
                {"a device", "rm dev; mknod dev c 1 5; chmod 644 dev"},
                {"something more", "touch d/more; touch -d @1700000000 d"},
                {"an opaque mark", "setfattr -n trusted.overlay.opaque -v y d"},
                {"an inherited directory", "chmod 0700 bin"},
        };
        struct world w = world_new();
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "usr/file", "text");
        changes_delete(c, "usr/white");
        changes_directory(c, "usr/d");
        changes_add(c, MOULT__ENTRY_TYPE__ENTRY_SYMLINK, "usr/link", "file");
        changes_add(c, MOULT__ENTRY_TYPE__ENTRY_FIFO, "usr/bin/pipe", "");
        struct target_change *dev = changes_add(c, MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE, "usr/dev", "");
        changes_entry(dev)->dev_major = 1;
        changes_entry(dev)->dev_minor = 3;
        cr_assert_eq(mkdirat(w.original, "white", 0755), 0);
        cr_assert_eq(mkdirat(w.original, "bin", 0755), 0);
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        put_objects(&w, t, "text");
        g_autoptr(GError) error = NULL;
        cr_assert(make(&w, t, &error), "%s", text_of(error));
        char id[TARGET_ID_LENGTH + 1];
        target_id(t, &usr, id);
        g_autofree char *tree = g_strdup_printf("%s/state/target/trees/%s", w.dir->path, id);
        for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *command = g_strdup_printf(
                        "cd %s && { %s; } && touch -r ../../../../original .", tree, cases[i].command);
                cr_assert_eq(system(command), 0, "%s", cases[i].name);
                scoped_fd int bad = openat(w.dir->fd, "state/target/trees", O_RDONLY | O_DIRECTORY);
                struct stat was, is;
                cr_assert_eq(fstatat(bad, id, &was, 0), 0);
                cr_assert(make(&w, t, &error), "%s: %s", cases[i].name, text_of(error));
                cr_assert_eq(fstatat(bad, id, &is, 0), 0);
                /* The first case is none: it shows that the others are seen for what they are. */
                cr_expect_eq(was.st_ino == is.st_ino, i == 0, "%s", cases[i].name);
                cr_expect(target_tree_check(w.store, t, &usr, &error), "%s: %s", cases[i].name,
                          text_of(error));
                g_clear_error(&error);
        }
        world_free(&w);
}

Test(target_tree, what_is_not_kept_is_collected)
{
        struct world w = world_new();
        g_autoptr(Changes) a = changes_new(), b = changes_new();
        changes_add(a, MOULT__ENTRY_TYPE__ENTRY_FIFO, "usr/a", "");
        changes_add(b, MOULT__ENTRY_TYPE__ENTRY_FIFO, "usr/b", "");
        g_autoptr(Target) one = targets_compose(NULL, 1, a), two = targets_compose(one, 2, b);
        g_autoptr(GError) error = NULL;
        cr_assert(make(&w, one, &error) && make(&w, two, &error), "%s", text_of(error));
        cr_assert_eq(mkdirat(w.dir->fd, "state/target/trees/new-0", 0700), 0); /* of a kill */
        char id[TARGET_ID_LENGTH + 1];
        target_id(two, &usr, id);
        g_autoptr(GHashTable) keep = g_hash_table_new(g_str_hash, g_str_equal);
        g_hash_table_add(keep, id);
        cr_expect(target_tree_collect(w.store, keep, &error), "%s", text_of(error));
        cr_expect(target_tree_check(w.store, two, &usr, &error), "%s", text_of(error));
        cr_expect(!target_tree_check(w.store, one, &usr, &error));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND));
        cr_expect_neq(faccessat(w.dir->fd, "state/target/trees/new-0", F_OK, 0), 0);
        world_free(&w);
}

Test(target_tree, a_path_deeper_than_there_are_descriptors_is_made)
{
        struct world w = world_new();
        g_autoptr(Changes) c = changes_new();
        g_autoptr(GString) path = g_string_new("usr");
        for (int i = 0; i < 1200; i++) {
                g_string_append(path, "/d");
                changes_directory(c, path->str);
        }
        g_string_append(path, "/");
        for (int i = 0; i < 255; i++)
                g_string_append_c(path, 'n');
        changes_file(c, path->str, "text");
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        put_objects(&w, t, "text");
        struct rlimit few = {64, 64};
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
        g_autoptr(GError) error = NULL;
        cr_assert(make(&w, t, &error), "%s", text_of(error));
        cr_expect(target_tree_check(w.store, t, &usr, &error), "%s", text_of(error));
        world_free(&w);
}

/* Fault points are read once in a process: each attempt has one of its own. Its wait status. */
static int in_child(struct world *w, const Target *t, void (*act)(struct world *, const Target *),
                    const char *fault)
{
        pid_t child = fork();
        if (child == 0) {
                if (fault != NULL)
                        setenv("MOULT_FAULT", fault, 1);
                act(w, t);
                _exit(0);
        }
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        return status;
}

static void act_put(struct world *w, const Target *t)
{
        put_objects(w, t, "text");
}

static void act_make(struct world *w, const Target *t)
{
        if (!make(w, t, NULL))
                _exit(1);
}

static void act_check(struct world *w, const Target *t)
{
        if (!target_tree_check(w->store, t, &usr, NULL))
                _exit(1);
}

static void act_collect(struct world *w, const Target *t)
{
        g_autoptr(GHashTable) none = g_hash_table_new(g_str_hash, g_str_equal);
        if (!target_tree_collect(w->store, none, NULL))
                _exit(1);
}

/* Killed, or failing, at every step: the next one makes it whole. */
Test(target_tree, survives_a_failure_at_every_step)
{
#ifndef MOULT_FAULT_POINTS
        cr_skip_test("needs fault points");
#endif
        static const char *const faults[] = {
                "tree-begin=kill",  "tree-begin=eio",     "tree-node=kill",
                "tree-node:2=kill", "tree-node:3=enospc", "object-link=eio",
                "tree-made=kill",   "tree-made=enospc",   "object-link=kill",
        };
        struct world w = world_new();
        g_autoptr(Changes) c = changes_new();
        changes_directory(c, "usr/d");
        changes_file(c, "usr/d/file", "text");
        changes_delete(c, "usr/white");
        cr_assert_eq(mkdirat(w.original, "white", 0755), 0);
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        cr_assert_eq(in_child(&w, t, act_put, NULL), 0);
        for (guint i = 0; i < G_N_ELEMENTS(faults); i++) {
                cr_expect_neq(in_child(&w, t, act_make, faults[i]), 0, "%s", faults[i]);
                cr_expect_neq(in_child(&w, t, act_check, NULL), 0, "%s: half a tree has the name", faults[i]);
                cr_expect_eq(in_child(&w, t, act_make, NULL), 0, "%s", faults[i]);
                cr_expect_eq(in_child(&w, t, act_check, NULL), 0, "%s", faults[i]);
                cr_assert_eq(in_child(&w, t, act_collect, NULL), 0, "%s", faults[i]);
        }
        world_free(&w);
}

Test(target_tree, a_file_that_cannot_be_linked_is_copied)
{
#ifndef MOULT_FAULT_POINTS
        cr_skip_test("needs fault points");
#endif
        struct world w = world_new();
        g_autoptr(Changes) c = changes_new();
        struct target_change *file = changes_file(c, "usr/file", "text");
        changes_entry(file)->mode = 04711;
        changes_entry(file)->uid = 7;
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        cr_assert_eq(in_child(&w, t, act_put, NULL), 0);
        cr_assert_eq(in_child(&w, t, act_make, "object-hard-link=skip"), 0);
        cr_expect_eq(look(&w, t, "file").st_nlink, 1u);
        cr_expect_eq(look(&w, t, "file").st_mode, S_IFREG | 04711);
        cr_expect_eq(look(&w, t, "file").st_uid, 7u);
        cr_expect_eq(in_child(&w, t, act_check, NULL), 0);
        world_free(&w);
}
