/* tests/unit/test_fuse_overlay_object_store.c - objects come whole, are what their name says, and go when
 * nobody needs them. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/remove_tree.h"
#include "fuse-overlay/object_copy.h"
#include "tests/support/targets.h"
#include "tests/support/tempdir.h"

static void init(void)
{
        if (geteuid() != 0)
                cr_skip_test("needs root: owners and trusted attributes");
}
TestSuite(object_store, .timeout = 60, .init = init);

struct world {
        TempDir *dir;
        ObjectStore *store;
        Changes *changes;
        Target *target;
};

/* usr/a and usr/b with content "text", usr/empty, usr/dir. */
static struct world world_new(void)
{
        struct world w = {.dir = tempdir_new(), .changes = changes_new()};
        g_autoptr(GError) error = NULL;
        w.store = object_store_open(w.dir->fd, &error);
        cr_assert_not_null(w.store);
        struct target_change *a = changes_file(w.changes, "usr/a", "text");
        changes_entry(a)->mode = 04755;
        changes_entry(a)->uid = 7;
        changes_xattr(w.changes, a, "user.a", "value", 5);
        changes_file(w.changes, "usr/b", "text");
        changes_directory(w.changes, "usr/dir");
        changes_file(w.changes, "usr/empty", "");
        w.target = targets_compose(NULL, 1, w.changes);
        return w;
}

static void world_free(struct world *w)
{
        target_unref(w->target);
        changes_free(w->changes);
        object_store_free(w->store);
        tempdir_free(w->dir);
}

static const Moult__Entry *entry(struct world *w, const char *path)
{
        struct target_item item;
        cr_assert(target_lookup(w->target, path, &item));
        return item.entry;
}

static char *path_of(struct world *w, const Moult__Entry *e)
{
        char name[TARGET_OBJECT_NAME_LENGTH + 1];
        target_object_name(e, name);
        return g_strdup_printf("%s/target/objects/%.2s/%s", w->dir->path, name, name);
}

static bool matches(const GError *error, MoultError code)
{
        return g_error_matches(error, MOULT_ERROR, (int)code);
}

static bool verify(struct world *w, const char *path, GError **error)
{
        return object_store_verify(w->store, entry(w, path), NULL, error);
}

Test(object_store, what_was_taken_is_there)
{
        struct world w = world_new();
        g_autoptr(GError) error = NULL;
        cr_expect(!object_store_has(w.store, entry(&w, "usr/a")));
        cr_expect(!verify(&w, "usr/a", &error) && matches(error, MOULT_ERROR_NOT_FOUND));
        g_clear_error(&error);
        cr_expect_eq(object_store_open_object(w.store, entry(&w, "usr/a"), &error), -1);
        cr_expect(matches(error, MOULT_ERROR_NOT_FOUND));
        g_clear_error(&error);
        targets_put_object(w.store, entry(&w, "usr/a"), "text", w.dir->fd);
        targets_put_object(w.store, entry(&w, "usr/empty"), "", w.dir->fd);
        cr_expect(object_store_has(w.store, entry(&w, "usr/a")));
        cr_expect(verify(&w, "usr/a", &error));
        cr_expect(verify(&w, "usr/empty", &error));
        /* The same content with other metadata is another object. */
        cr_expect(!object_store_has(w.store, entry(&w, "usr/b")));
        scoped_fd int fd = object_store_open_object(w.store, entry(&w, "usr/a"), &error);
        char text[8];
        cr_expect_eq(read(fd, text, sizeof text), 4);
        struct stat st;
        cr_expect_eq(fstatat(w.dir->fd, "target", &st, 0), 0);
        cr_expect_eq(st.st_mode, S_IFDIR | 0700);
        world_free(&w);
}

Test(object_store, damage_is_found)
{
        static const struct {
                const char *command;
                bool has;
        } cases[] = {
                {"printf TEXT > $F; touch -d @1700000000 $F; chmod 4755 $F",
                 true}, /* content alone is not read */
                {"printf longer > $F; touch -d @1700000000 $F", false},
                {"chmod 0755 $F", false},
                {"touch $F", false},
                {"chown 8 $F; chmod 4755 $F", false},
                {"setfattr -x user.a $F", false},
                {"setfattr -n user.b -v 1 $F", false},
                {"mv $F $F.x; ln -s $F.x $F", false},
                {"rm $F; mkfifo $F", false},
                {"rm $F; mkdir $F", false},
        };
        for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
                struct world w = world_new();
                g_autoptr(GError) error = NULL;
                targets_put_object(w.store, entry(&w, "usr/a"), "text", w.dir->fd);
                cr_expect(verify(&w, "usr/a", &error));
                g_autofree char *file = path_of(&w, entry(&w, "usr/a"));
                g_autofree char *command = g_strdup_printf("F='%s'; %s", file, cases[i].command);
                cr_assert_eq(system(command), 0, "%s", cases[i].command);
                cr_expect_eq(object_store_has(w.store, entry(&w, "usr/a")), cases[i].has, "%s",
                             cases[i].command);
                cr_expect(!verify(&w, "usr/a", &error), "%s", cases[i].command);
                cr_expect(matches(error, MOULT_ERROR_CORRUPT), "%s", cases[i].command);
                world_free(&w);
        }
}

Test(object_store, a_damaged_object_is_replaced_and_who_has_it_open_keeps_it)
{
        struct world w = world_new();
        g_autoptr(GError) error = NULL;
        const Moult__Entry *e = entry(&w, "usr/b");
        targets_put_object(w.store, e, "TEXT", w.dir->fd);
        object_store_forget_verified(w.store);
        cr_expect(!verify(&w, "usr/b", &error));
        g_clear_error(&error);
        scoped_fd int old = object_store_open_object(w.store, e, &error);
        targets_put_object(w.store, e, "text", w.dir->fd);
        cr_expect(verify(&w, "usr/b", &error));
        char text[8];
        cr_expect_eq(read(old, text, sizeof text), 4);
        cr_expect_arr_eq(text, "TEXT", 4);
        world_free(&w);
}

Test(object_store, what_cannot_be_the_object_is_not_taken)
{
        struct world w = world_new();
        g_autoptr(GError) error = NULL;
        tempdir_put(w.dir, "longer", "longer", 6);
        cr_expect(!object_store_take(w.store, entry(&w, "usr/b"), w.dir->fd, "longer", &error));
        cr_expect(matches(error, MOULT_ERROR_CORRUPT));
        g_clear_error(&error);
        cr_assert_eq(symlinkat("longer", w.dir->fd, "link"), 0);
        cr_expect(!object_store_take(w.store, entry(&w, "usr/b"), w.dir->fd, "link", &error));
        g_clear_error(&error);
        cr_expect(!object_store_take(w.store, entry(&w, "usr/b"), w.dir->fd, "none", &error));
        cr_expect(matches(error, MOULT_ERROR_NOT_FOUND));
        world_free(&w);
}

/* rename() of two names of one file does nothing, and says that all is well. */
Test(object_store, another_name_of_the_object_itself_is_taken)
{
        struct world w = world_new();
        g_autoptr(GError) error = NULL;
        targets_put_object(w.store, entry(&w, "usr/b"), "text", w.dir->fd);
        cr_assert(object_store_link(w.store, entry(&w, "usr/b"), w.dir->fd, "again", &error));
        cr_expect(object_store_take(w.store, entry(&w, "usr/b"), w.dir->fd, "again", &error));
        cr_expect_neq(faccessat(w.dir->fd, "again", F_OK, 0), 0);
        cr_expect(verify(&w, "usr/b", &error));
        world_free(&w);
}

Test(object_store, a_link_is_the_same_file)
{
        struct world w = world_new();
        g_autoptr(GError) error = NULL;
        cr_expect(!object_store_link(w.store, entry(&w, "usr/b"), w.dir->fd, "link", &error));
        cr_expect(matches(error, MOULT_ERROR_NOT_FOUND));
        g_clear_error(&error);
        targets_put_object(w.store, entry(&w, "usr/b"), "text", w.dir->fd);
        cr_expect(object_store_link(w.store, entry(&w, "usr/b"), w.dir->fd, "link", &error));
        g_autofree char *object = path_of(&w, entry(&w, "usr/b"));
        struct stat a, b;
        cr_expect_eq(stat(object, &a), 0);
        cr_expect_eq(fstatat(w.dir->fd, "link", &b, AT_SYMLINK_NOFOLLOW), 0);
        cr_expect_eq(a.st_ino, b.st_ino);
        cr_expect(!object_store_link(w.store, entry(&w, "usr/b"), w.dir->fd, "link", &error), "it is there");
        world_free(&w);
}

Test(object_store, a_copy_keeps_holes_and_metadata)
{
        g_autoptr(TempDir) dir = tempdir_new();
        g_autoptr(GError) error = NULL;
        enum { HOLE = 8 * 1024 * 1024 };
        tempdir_put(dir, "from", "begin", 5);
        scoped_fd int from = openat(dir->fd, "from", O_RDWR | O_CLOEXEC);
        cr_assert_eq(pwrite(from, "middle", 6, HOLE), 6);
        cr_assert_eq(ftruncate(from, 3 * HOLE + 1), 0);
        g_autoptr(Metadata) m = metadata_new();
        m->mode = 06755;
        m->uid = 3;
        m->mtime.tv_sec = 1600000000;
        cr_assert(object_copy(dir->fd, "from", dir->fd, "to", m, &error), "%s",
                  error != NULL ? error->message : "");
        scoped_fd int to = openat(dir->fd, "to", O_RDONLY | O_CLOEXEC);
        struct stat st;
        cr_assert_eq(fstat(to, &st), 0);
        cr_expect_eq(st.st_mode, S_IFREG | 06755);
        cr_expect_eq(st.st_uid, 3u);
        cr_expect_eq(st.st_mtim.tv_sec, 1600000000);
        cr_expect_eq(st.st_size, 3 * HOLE + 1);
        cr_expect_lt(st.st_blocks, 4096);
        g_autoptr(Hasher) h = hasher_new();
        guint8 a[DIGEST_SIZE], b[DIGEST_SIZE];
        cr_assert(verity_digest_fd(h, from, 3 * HOLE + 1, a, NULL, &error));
        cr_assert(verity_digest_fd(h, to, 3 * HOLE + 1, b, NULL, &error));
        cr_expect_arr_eq(a, b, DIGEST_SIZE);
        cr_expect(!object_copy(dir->fd, "from", dir->fd, "to", m, &error) &&
                  matches(error, MOULT_ERROR_BUSY));
}

static guint count_objects(struct world *w)
{
        g_autofree char *command =
                g_strdup_printf("exit $(find '%s/target/objects' -mindepth 2 | wc -l)", w->dir->path);
        return (guint)WEXITSTATUS(system(command));
}

/* As between directories with project quotas of their own. */
Test(object_store, what_lies_on_another_file_system_is_copied)
{
        if (access("/dev/shm", W_OK) != 0)
                cr_skip_test("needs /dev/shm");
        struct world w = world_new();
        g_autoptr(GError) error = NULL;
        char path[] = "/dev/shm/test-object-XXXXXX";
        cr_assert_not_null(mkdtemp(path));
        scoped_fd int other = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct stat here, there;
        fstat(w.dir->fd, &here);
        fstat(other, &there);
        const Moult__Entry *e = entry(&w, "usr/b");
        targets_put_object(w.store, e, "text", other); /* taken */
        bool verified = verify(&w, "usr/b", &error);
        bool gone = faccessat(other, "incoming-file", F_OK, 0) != 0;
        bool linked = object_store_link(w.store, e, other, "link", &error);
        struct stat st = {0};
        fstatat(other, "link", &st, AT_SYMLINK_NOFOLLOW);
        cr_expect(remove_tree_children(other, NULL, &error));
        rmdir(path);
        cr_expect(verified && gone && linked);
        cr_expect_eq(st.st_size, 4);
        cr_expect_eq(st.st_mtim.tv_sec, 1700000000);
        cr_expect_eq(count_objects(&w), 1u);
        if (here.st_dev == there.st_dev)
                cr_skip_test("TMPDIR and /dev/shm are one file system");
        world_free(&w);
}

Test(object_store, what_no_target_has_is_collected)
{
        struct world w = world_new();
        g_autoptr(GError) error = NULL;
        static const char *const paths[] = {"usr/a", "usr/b", "usr/empty"};
        for (guint i = 0; i < G_N_ELEMENTS(paths); i++)
                targets_put_object(w.store, entry(&w, paths[i]), i < 2 ? "text" : "", w.dir->fd);
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "usr/b", "text");
        changes_delete(c, "usr/a");
        g_autoptr(Target) other = targets_compose(NULL, 2, c);
        /* Leftovers of kills, and what somebody else put there. */
        g_autofree char *command = g_strdup_printf("cd '%s/target/objects' && S=$(ls | head -1) && touch "
                                                   "$S/.new-0123 stray && mkdir -p zz/dir/in zzz && "
                                                   "ln -s /etc zz/link",
                                                   w.dir->path);
        cr_assert_eq(system(command), 0);
        guint64 freed = 0;
        const Target *keep[] = {other};
        cr_expect(object_store_collect(w.store, keep, 1, &freed, &error), "%s",
                  error != NULL ? error->message : "");
        cr_expect_gt(freed, 0u);
        cr_expect_eq(count_objects(&w), 1u);
        cr_expect(verify(&w, "usr/b", &error));
        cr_expect(object_store_collect(w.store, NULL, 0, &freed, &error));
        cr_expect_eq(count_objects(&w), 0u);
        /* And it works on. */
        targets_put_object(w.store, entry(&w, "usr/b"), "text", w.dir->fd);
        cr_expect(verify(&w, "usr/b", &error));
        world_free(&w);
}

Test(object_store, two_targets_keep_the_objects_of_both)
{
        struct world w = world_new();
        g_autoptr(GError) error = NULL;
        targets_put_object(w.store, entry(&w, "usr/a"), "text", w.dir->fd);
        targets_put_object(w.store, entry(&w, "usr/empty"), "", w.dir->fd);
        g_autoptr(Changes) c = changes_new();
        changes_delete(c, "usr/a");
        g_autoptr(Target) next = targets_compose(w.target, 2, c);
        const Target *keep[] = {next, w.target};
        cr_expect(object_store_collect(w.store, keep, 2, NULL, &error));
        cr_expect_eq(count_objects(&w), 2u);
        cr_expect(object_store_collect(w.store, keep, 1, NULL, &error));
        cr_expect_eq(count_objects(&w), 1u);
        world_free(&w);
}

/* Fault points are read once in a process: each attempt has one of its own. */
static int take_in_child(struct world *w, const char *fault)
{
        pid_t child = fork();
        if (child == 0) {
                setenv("MOULT_FAULT", fault, 1);
                _exit(object_store_take(w->store, entry(w, "usr/empty"), w->dir->fd, "in", NULL) ? 0 : 1);
        }
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        return status;
}

Test(object_store, a_kill_leaves_the_file_or_the_object)
{
#ifndef MOULT_FAULT_POINTS
        cr_skip_test("needs fault points");
#endif
        static const char *const faults[] = {"object-take=kill", "object-take=eio", "object-taken=kill",
                                             "object-taken=enospc"};
        for (guint i = 0; i < G_N_ELEMENTS(faults); i++) {
                struct world w = world_new();
                tempdir_put(w.dir, "in", "", 0);
                cr_expect_neq(take_in_child(&w, faults[i]), 0, "%s", faults[i]);
                g_autofree char *object = path_of(&w, entry(&w, "usr/empty"));
                bool moved = access(object, F_OK) == 0, stayed = faccessat(w.dir->fd, "in", F_OK, 0) == 0;
                cr_expect_eq(moved, strstr(faults[i], "taken") != NULL, "%s", faults[i]);
                cr_expect_neq(moved, stayed, "%s", faults[i]);
                world_free(&w);
        }
}

Test(object_store, a_state_directory_with_a_link_in_it_is_refused)
{
        g_autoptr(TempDir) dir = tempdir_new();
        g_autoptr(GError) error = NULL;
        cr_assert_eq(symlinkat("/tmp", dir->fd, "target"), 0);
        cr_expect_null(object_store_open(dir->fd, &error));
        cr_expect_not_null(error);
}

/* Writes one byte over the object's first, leaving its size and times as they were but for the time of
 * change. */
static void damage(struct world *w, const Moult__Entry *e)
{
        g_autofree char *path = path_of(w, e);
        struct stat st;
        cr_assert_eq(stat(path, &st), 0);
        scoped_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
        cr_assert_eq(pwrite(fd, "X", 1, 0), 1);
        const struct timespec times[] = {st.st_atim, st.st_mtim};
        cr_assert_eq(futimens(fd, times), 0);
}

Test(object_store, what_was_verified_and_then_changed_is_found_all_the_same)
{
        struct world w = world_new();
        g_autoptr(GError) error = NULL;
        targets_put_object(w.store, entry(&w, "usr/a"), "text", w.dir->fd);
        cr_assert(verify(&w, "usr/a", &error));
        damage(&w, entry(&w, "usr/a"));
        cr_assert_not(verify(&w, "usr/a", &error));
        cr_assert(matches(error, MOULT_ERROR_CORRUPT));
        g_clear_error(&error);
        cr_assert_not(verify(&w, "usr/a", &error), "a damaged one is not remembered as whole");
        world_free(&w);
}

Test(object_store, what_was_just_written_is_not_read_again_until_something_new_begins)
{
        struct world w = world_new();
        g_autoptr(GError) error = NULL;
        const Moult__Entry *e = entry(&w, "usr/a");
        /* Not what the caller says that it is: who looks, sees it. */
        targets_put_object(w.store, e, "TEXT", w.dir->fd);
        cr_assert(verify(&w, "usr/a", &error));
        cr_assert(object_store_link(w.store, e, w.dir->fd, "linked", &error));
        cr_assert(verify(&w, "usr/a", &error), "another name changes nothing but the time of change");
        object_store_forget_verified(w.store);
        cr_assert_not(verify(&w, "usr/a", &error));
        cr_assert(matches(error, MOULT_ERROR_CORRUPT));
        world_free(&w);
}
