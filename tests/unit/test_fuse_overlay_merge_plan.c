/* tests/unit/test_fuse_overlay_merge_plan.c - where a target is merged, as people read it. */
#include <criterion/criterion.h>

#include "fuse-overlay/merge_plan.h"
#include "tests/support/targets.h"

TestSuite(merge_plan, .timeout = 30);

static struct target_change *on(struct target_change *change, const char *mount)
{
        change->mount = mount;
        return change;
}

static void lone(struct target_change *change, const char *mount)
{
        on(change, mount)->reach = MOULT__TARGET__REACH__REACH_FILE;
}

static void expect_plan(const Changes *c, const struct target_merge *present, guint n, const char *want)
{
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        g_autoptr(MergePlan) p = merge_plan(t, present, n);
        g_autofree char *text = merge_plan_text(p, t);
        cr_expect_str_eq(text, want);
        /* Whatever is planned can be kept. */
        g_autoptr(Target) merged =
                target_with_merges(t, (const struct target_merge *)(void *)p->merges->data, p->merges->len);
        g_autofree char *why = target_refusal(merged);
        cr_expect_null(why, "%s", why);
}

Test(merge_plan, the_deepest_directory_that_holds_all_of_a_mount)
{
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "usr/share/doc/a/x", "");
        changes_file(c, "usr/share/doc/b/y", "");
        changes_delete(c, "usr/share/doc/b/z");
        expect_plan(c, NULL, 0, "tree /usr/share/doc: 2 files, 1 deletion on the mount at /usr\n");
}

Test(merge_plan, one_file_is_merged_by_its_directory)
{
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "usr/bin/x", "");
        expect_plan(c, NULL, 0, "tree /usr/bin: 1 file on the mount at /usr\n");
}

Test(merge_plan, neighbours_with_a_common_prefix_are_no_directory)
{
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "usr/lib/x", "");
        changes_file(c, "usr/lib64/x", "");
        expect_plan(c, NULL, 0, "tree /usr: 2 files on the mount at /usr\n");
}

Test(merge_plan, a_new_directory_is_held_by_the_one_above)
{
        g_autoptr(Changes) c = changes_new();
        changes_directory(c, "usr/share/new");
        changes_file(c, "usr/share/new/x", "");
        expect_plan(c, NULL, 0, "tree /usr/share: 1 file, 1 other object on the mount at /usr\n");
}

Test(merge_plan, a_directory_of_the_original_can_be_the_place)
{
        g_autoptr(Changes) c = changes_new();
        changes_directory(c, "usr/share/doc")->original = MOULT__TARGET__ORIGINAL__ORIGINAL_DIRECTORY;
        changes_file(c, "usr/share/doc/x", "");
        expect_plan(c, NULL, 0, "tree /usr/share/doc: 1 file, 1 other object on the mount at /usr\n");
}

Test(merge_plan, a_mount_point_itself_can_be_changed_but_not_replaced)
{
        g_autoptr(Changes) c = changes_new(), d = changes_new();
        changes_directory(c, "usr");
        expect_plan(c, NULL, 0, "tree /usr: 1 other object on the mount at /usr\n");
        changes_delete(d, "usr");
        expect_plan(d, NULL, 0, "blocked /usr: it is a mount point, and cannot be replaced or deleted\n");
}

Test(merge_plan, the_root_is_never_merged)
{
        g_autoptr(Changes) c = changes_new();
        on(changes_file(c, "usr/bin/x", ""), "");
        on(changes_file(c, "usr/lib/y", ""), "");
        on(changes_file(c, "etc/z", ""), "");
        on(changes_file(c, "init", ""), "");
        on(changes_file(c, "new", ""), "")->original = MOULT__TARGET__ORIGINAL__ORIGINAL_ABSENT;
        on(changes_delete(c, "old"), "");
        on(changes_directory(c, "opt"), "");
        on(changes_directory(c, "srv"), "")->original = MOULT__TARGET__ORIGINAL__ORIGINAL_DIRECTORY;
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        g_autoptr(MergePlan) p = merge_plan(t, NULL, 0);
        g_autofree char *text = merge_plan_text(p, t);
        cr_expect_str_eq(text, "tree /etc: 1 file on the mount at /\n"
                               "file /init on the mount at /\n"
                               "tree /srv: 1 other object on the mount at /\n"
                               "tree /usr: 2 files on the mount at /\n"
                               "blocked /new: it would be new in the root directory, which is never merged\n"
                               "blocked /old: it lies directly in the root directory, which is never merged: "
                               "only a regular file that is there can be replaced\n"
                               "blocked /opt: it lies directly in the root directory, which is never merged: "
                               "only a regular file that is there can be replaced\n");
}

Test(merge_plan, each_lone_file_is_a_place_of_its_own)
{
        g_autoptr(Changes) c = changes_new();
        lone(changes_file(c, "etc/a", ""), "");
        lone(changes_file(c, "etc/b\n", ""), "");
        expect_plan(c, NULL, 0, "file /etc/a on the mount at /\nfile /etc/b\\x0a on the mount at /\n");
}

Test(merge_plan, a_lone_file_that_a_tree_holds_needs_no_place)
{
        g_autoptr(Changes) c = changes_new();
        lone(changes_file(c, "usr/bin/a", ""), "usr");
        changes_file(c, "usr/bin/b", "");
        expect_plan(c, NULL, 0, "tree /usr/bin: 2 files on the mount at /usr\n");
}

Test(merge_plan, mounts_in_one_another_are_merged_outer_first)
{
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "usr/bin/a", "");
        changes_file(c, "usr/local-a", "");
        on(changes_file(c, "usr/local/bin/b", ""), "usr/local");
        lone(changes_file(c, "usr/srv/x", ""), "usr/srv");
        expect_plan(c, NULL, 0,
                    "tree /usr: 2 files on the mount at /usr\n"
                    "tree /usr/local/bin: 1 file on the mount at /usr/local\n"
                    "file /usr/srv/x on the mount at /usr/srv\n");
}

/* Items from the time before something was mounted over their directory. */
Test(merge_plan, what_another_mount_covers_is_no_place)
{
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "usr/local/share/old", "");
        lone(changes_file(c, "usr/local/lone", ""), "usr");
        on(changes_file(c, "usr/local/bin/b", ""), "usr/local");
        expect_plan(c, NULL, 0,
                    "tree /usr: 2 files on the mount at /usr\n"
                    "tree /usr/local/bin: 1 file on the mount at /usr/local\n");
}

Test(merge_plan, a_merge_never_shrinks)
{
        static const struct target_merge present[] = {{"usr/share", MOULT__TARGET__REACH__REACH_TREE, NULL},
                                                      {"opt/x", MOULT__TARGET__REACH__REACH_TREE, NULL},
                                                      {"etc/a", MOULT__TARGET__REACH__REACH_FILE, NULL}};
        g_autoptr(Changes) c = changes_new(), d = changes_new(), none = changes_new();
        changes_file(c, "usr/share/doc/a", "");
        expect_plan(c, present, 3, "tree /usr/share: 1 file on the mount at /usr\n");
        changes_file(d, "usr/lib/a", "");
        expect_plan(d, present, 3, "tree /usr: 1 file on the mount at /usr\n");
        expect_plan(none, present, 3, "");
}

Test(merge_plan, a_merge_on_the_roots_mount_counts_for_its_own_directory)
{
        static const struct target_merge present[] = {{"usr/share", MOULT__TARGET__REACH__REACH_TREE, ""},
                                                      {"etc/x", MOULT__TARGET__REACH__REACH_TREE, ""}};
        g_autoptr(Changes) c = changes_new();
        on(changes_file(c, "usr/lib/a", ""), "");
        expect_plan(c, present, 2, "tree /usr: 1 file on the mount at /\n");
}
