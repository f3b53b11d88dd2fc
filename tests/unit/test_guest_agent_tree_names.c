/* tests/unit/test_guest_agent_tree_names.c - what of a directory lies in a range of paths. */
#include "guest-agent/tree_names.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/fd.h"
#include "tests/support/tempdir.h"

TestSuite(tree_names, .timeout = 60);

static char *names_within(TempDir *t, const char *after, const char *until)
{
        const struct tree_bounds bounds = {after, until};
        scoped_fd int fd = openat(t->fd, ".", O_RDONLY | O_DIRECTORY);
        g_autoptr(GError) error = NULL;
        g_autoptr(TreeNames) n = tree_names_read(fd, "", &bounds, &error);
        GString *s = g_string_new(NULL);

        cr_assert(n != NULL, "%s", error ? error->message : "");
        for (guint i = 0; i < tree_names_count(n); i++)
                g_string_append_printf(s, "%s ", tree_names_get(n, i));
        return g_string_free(s, FALSE);
}

static void expect_names(TempDir *t, const char *after, const char *until, const char *want)
{
        g_autofree char *got = names_within(t, after, until);

        cr_expect(eq(str, got, (char *)want), "after %s until %s", after ? after : "-", until ? until : "-");
}

Test(tree_names, of_a_directory_come_in_order_and_as_far_as_the_range_goes)
{
        g_autoptr(TempDir) t = tempdir_new();

        expect_names(t, NULL, NULL, "");
        tempdir_put(t, "b", "", 0);
        tempdir_put(t, "a-b", "", 0);
        tempdir_put(t, ".c", "", 0);
        tempdir_put(t, "\xff", "", 0);
        mkdirat(t->fd, "a", 0755);
        expect_names(t, NULL, NULL, ".c a a-b b \xff ");
        expect_names(t, "a", NULL, "a a-b b \xff ");
        expect_names(t, "a/x/y", NULL, "a a-b b \xff ");
        expect_names(t, NULL, "a", ".c a ");
        expect_names(t, NULL, "a/x", ".c a ");
        expect_names(t, "a-", "b/c", "a-b b ");
        expect_names(t, "a-bc", "azz", "");
}

Test(tree_names, of_more_than_one_piece_are_all_there)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GString) want = g_string_new(NULL);

        for (unsigned i = 0; i < 1200; i++) {
                g_autofree char *name = g_strdup_printf("%04u-with-a-name-of-some-length-%064u", i, i);

                tempdir_put(t, name, "", 0);
                g_string_append_printf(want, "%s ", name);
        }
        expect_names(t, NULL, NULL, want->str);
}

Test(tree_names, what_is_no_directory_is_an_error)
{
        g_autoptr(TempDir) t = tempdir_new();
        const struct tree_bounds all = {NULL, NULL};
        g_autoptr(GError) error = NULL;

        tempdir_put(t, "f", "", 0);
        scoped_fd int fd = openat(t->fd, "f", O_RDONLY);
        cr_expect(tree_names_read(fd, "f", &all, &error) == NULL);
        cr_expect(error && strstr(error->message, "listing /f"));
}

/* The beginning is not in the range, what is below it is; the end is in it, and what is below it is not. */
Test(tree_names, bounds_go_down_with_the_walk)
{
        struct tree_bounds b = {"a/b", "c/d"}, below, deeper;

        cr_expect(not(tree_bounds_include(&b, "a", &below)));
        cr_expect(eq(str, (char *)below.after, "b"));
        cr_expect(below.until == NULL && tree_bounds_go_below(&below));
        cr_expect(tree_bounds_include(&below, "bb", &deeper) && deeper.after == NULL);
        cr_expect(not(tree_bounds_include(&below, "b", &deeper)));
        cr_expect(deeper.after == NULL && tree_bounds_go_below(&deeper), "all below the beginning is in");

        cr_expect(tree_bounds_include(&b, "b", &below));
        cr_expect(below.after == NULL && below.until == NULL);

        cr_expect(tree_bounds_include(&b, "c", &below));
        cr_expect(eq(str, (char *)below.until, "d"));
        cr_expect(tree_bounds_include(&below, "d", &deeper));
        cr_expect(not(tree_bounds_go_below(&deeper)), "the end is a path, not all below it");
}
