/* tests/unit/test_common_remove_tree.c - all of it goes, and nothing else. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/remove_tree.h"
#include "tests/support/tempdir.h"

TestSuite(remove_tree, .timeout = 60);

static bool is_there(TempDir *t, const char *name)
{
        struct stat st;
        return fstatat(t->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make_directory(TempDir *t, const char *name)
{
        cr_assert_eq(mkdirat(t->fd, name, 0755), 0);
}

Test(remove_tree, what_is_not_there_is_removed)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        cr_expect(remove_tree(t->fd, "none", &error));
}

Test(remove_tree, a_link_goes_and_not_what_it_leads_to)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        make_directory(t, "kept");
        tempdir_put(t, "kept/file", "x", 1);
        make_directory(t, "d");
        cr_assert_eq(symlinkat("../kept", t->fd, "d/link"), 0);
        cr_assert_eq(symlinkat("kept", t->fd, "link"), 0);
        cr_expect(remove_tree(t->fd, "d", &error));
        cr_expect(remove_tree(t->fd, "link", &error));
        cr_expect(!is_there(t, "d") && !is_there(t, "link"));
        cr_expect(is_there(t, "kept/file"));
}

Test(remove_tree, a_tree_deeper_than_there_are_descriptors_goes)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(GString) path = g_string_new("deep");
        make_directory(t, "deep");
        for (int i = 0; i < 1500; i++) {
                g_string_append(path, "/d");
                make_directory(t, path->str);
                if (i % 500 == 0) {
                        g_autofree char *file = g_strconcat(path->str, "/file\n", NULL);
                        tempdir_put(t, file, "x", 1);
                }
        }
        struct rlimit few = {64, 64};
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
        cr_expect(remove_tree(t->fd, "deep", &error), "%s", error != NULL ? error->message : "");
        cr_expect(!is_there(t, "deep"));
}

Test(remove_tree, names_that_are_kept_stay_at_the_top_alone)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(GHashTable) keep = g_hash_table_new(g_str_hash, g_str_equal);
        g_hash_table_add(keep, (gpointer) "a");
        make_directory(t, "a");
        make_directory(t, "b");
        make_directory(t, "b/a");
        tempdir_put(t, "a/file", "x", 1);
        tempdir_put(t, "b/a/file", "x", 1);
        cr_expect(remove_tree_children(t->fd, keep, &error));
        cr_expect(is_there(t, "a/file"));
        cr_expect(!is_there(t, "b"));
}

Test(remove_tree, what_is_mounted_in_it_is_left_alone)
{
        if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                cr_skip_test("needs root and a mount namespace of its own");
        g_autoptr(TempDir) t = tempdir_new();
        make_directory(t, "d");
        make_directory(t, "d/mnt");
        make_directory(t, "other");
        tempdir_put(t, "other/file", "x", 1);
        g_autofree char *from = tempdir_path(t, "other"), *to = tempdir_path(t, "d/mnt");
        cr_assert_eq(mount(from, to, NULL, MS_BIND, NULL), 0);
        g_autoptr(GError) error = NULL;
        bool removed = remove_tree(t->fd, "d", &error);
        umount2(to, MNT_DETACH);
        cr_expect(!removed && g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED));
        cr_expect(is_there(t, "other/file"));
}
