/* tests/unit/test_targetfs_name_tree.c - a list of paths, asked for one name at a time. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "fuse-overlay/targetfs/name_tree.h"
#include "tests/support/targets.h"

TestSuite(name_tree, .timeout = 30);

static NameTree *tree_of(const Changes *c, const char *merge)
{
        const struct target_merge m = {
                .path = merge, .reach = MOULT__TARGET__REACH__REACH_TREE, .mount = "usr"};
        g_autoptr(Target) bare = targets_compose(NULL, 1, c);
        g_autoptr(Target) t = target_with_merges(bare, &m, 1);
        return name_tree_new(t, &m);
}

static guint32 at(const NameTree *n, const char *path)
{
        g_auto(GStrv) names = g_strsplit(path, "/", -1);
        guint32 node = NAME_TREE_ROOT;
        for (char **name = names; *name != NULL && node != NAME_TREE_NONE; name++)
                node = name_tree_child(n, node, *name);
        return node;
}

Test(name_tree, names_are_found_below_the_merge_and_others_are_not)
{
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "usr/a/b", "1");
        changes_file(c, "usr/a-b/c", "2");
        changes_delete(c, "usr/a/gone");
        changes_file(c, "usr/z", "3");
        g_autoptr(NameTree) n = tree_of(c, "usr");

        cr_assert(ne(u32, at(n, "a/b"), NAME_TREE_NONE));
        cr_assert(ne(u32, at(n, "a-b/c"), NAME_TREE_NONE));
        cr_assert(eq(u32, at(n, "a/c"), NAME_TREE_NONE));
        cr_assert(name_tree_is_whiteout(n, at(n, "a/gone")));
        cr_assert(name_tree_is_directory(n, at(n, "a")));
        cr_assert_null(name_tree_entry(n, at(n, "a")),
                       "a directory that is only passed through has no entry");
        cr_assert_not(name_tree_is_directory(n, at(n, "z")));
}

Test(name_tree, a_deeper_merge_has_only_what_lies_below_it)
{
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "usr/lib/x/one", "1");
        changes_file(c, "usr/lib-other", "2");
        g_autoptr(NameTree) n = tree_of(c, "usr/lib");
        guint32 first;

        cr_assert(eq(u32, name_tree_children(n, NAME_TREE_ROOT, &first), 1));
        cr_assert(eq(str, (char *)name_tree_name(n, name_tree_nth(n, first)), "x"));
        cr_assert(ne(u32, at(n, "x/one"), NAME_TREE_NONE));
}

Test(name_tree, children_are_in_the_order_of_their_names)
{
        static const char *const names[] = {"m", "a", "z", "b-c", "b"};
        g_autoptr(Changes) c = changes_new();
        for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *path = g_strconcat("usr/", names[i], NULL);
                changes_file(c, path, names[i]);
        }
        g_autoptr(NameTree) n = tree_of(c, "usr");
        guint32 first, count = name_tree_children(n, NAME_TREE_ROOT, &first);

        cr_assert(eq(u32, count, 5));
        for (guint32 i = first + 1; i < first + count; i++)
                cr_assert(lt(int,
                             g_strcmp0(name_tree_name(n, name_tree_nth(n, i - 1)),
                                       name_tree_name(n, name_tree_nth(n, i))),
                             0));
}

Test(name_tree, equal_files_are_one_inode_and_all_others_have_their_own)
{
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "usr/one", "same");
        changes_file(c, "usr/two", "same");
        changes_file(c, "usr/other", "different");
        changes_directory(c, "usr/d");
        g_autoptr(NameTree) n = tree_of(c, "usr");

        cr_assert(eq(u64, name_tree_inode(n, at(n, "one")), name_tree_inode(n, at(n, "two"))));
        cr_assert(eq(u32, name_tree_links(n, at(n, "two")), 2));
        cr_assert(eq(u32, name_tree_links(n, at(n, "other")), 1));
        cr_assert(ne(u64, name_tree_inode(n, at(n, "one")), name_tree_inode(n, at(n, "other"))));
        cr_assert(ne(u64, name_tree_inode(n, at(n, "d")), name_tree_inode(n, at(n, "other"))));
}

Test(name_tree, numbers_of_the_original_never_meet_the_targets)
{
        static const guint64 originals[] = {
                1, G_MAXINT32, UINT64_C(1) << 31, (UINT64_C(1) << 31) + 1, G_MAXUINT32, UINT64_C(1) << 40};
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "usr/one", "1");
        g_autoptr(NameTree) n = tree_of(c, "usr");

        for (guint i = 0; i < G_N_ELEMENTS(originals); i++) {
                guint64 number = name_tree_original_inode(originals[i]);
                cr_assert(number < (UINT64_C(1) << 31) || number >= (UINT64_C(1) << 32),
                          "%" G_GUINT64_FORMAT " lies among the target's", number);
                for (guint k = 0; k < i; k++)
                        cr_assert(ne(u64, number, name_tree_original_inode(originals[k])));
        }
        cr_assert(ge(u64, name_tree_inode(n, at(n, "one")), UINT64_C(1) << 31));
        cr_assert(lt(u64, name_tree_inode(n, at(n, "one")), UINT64_C(1) << 32));
}
