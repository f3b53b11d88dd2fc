/* tests/unit/test_release_build_plan.c - the entries that turn one tree into another: all of them, and no
 * others. */
#include "host-service/release/build_plan.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-service/release/build_digest.h"
#include "host-service/release/build_entry.h"
#include "tests/support/tempdir.h"

TestSuite(release_build_plan, .timeout = 60);

static const struct build_tree_options no_options = {0};

struct pair {
        TempDir *old_dir, *new_dir;
        BuildTree *old_tree, *new_tree;
        GArray *items;
};

static struct pair begin(void)
{
        return (struct pair){.old_dir = tempdir_new(), .new_dir = tempdir_new()};
}

/* The same file, with the same times, on both sides. */
static void both(struct pair *p, const char *name, const char *content)
{
        const struct timespec times[] = {{1000, 0}, {1000, 0}};

        tempdir_put(p->old_dir, name, content, strlen(content));
        tempdir_put(p->new_dir, name, content, strlen(content));
        utimensat(p->old_dir->fd, name, times, 0);
        utimensat(p->new_dir->fd, name, times, 0);
}

static void both_directories(struct pair *p, const char *name)
{
        cr_assert(eq(int, mkdirat(p->old_dir->fd, name, 0755), 0));
        cr_assert(eq(int, mkdirat(p->new_dir->fd, name, 0755), 0));
}

static char *plan(struct pair *p, bool mtime_counts)
{
        g_autoptr(GArray) new_wanted = g_array_new(FALSE, FALSE, sizeof(guint));
        g_autoptr(GArray) old_wanted = g_array_new(FALSE, FALSE, sizeof(guint));
        GString *s = g_string_new(NULL);

        p->old_tree = build_tree_scan(p->old_dir->path, &no_options, NULL, NULL);
        p->new_tree = build_tree_scan(p->new_dir->path, &no_options, NULL, NULL);
        cr_assert(p->old_tree && p->new_tree);
        build_plan_wanted(p->new_tree, p->old_tree, new_wanted, old_wanted);
        cr_assert(build_digest_run(p->old_tree, old_wanted, 1, NULL, NULL, NULL, NULL));
        cr_assert(build_digest_run(p->new_tree, new_wanted, 1, NULL, NULL, NULL, NULL));
        p->items = build_plan_make(p->new_tree, p->old_tree, mtime_counts);
        for (guint i = 0; i < p->items->len; i++) {
                const struct build_item *item = &g_array_index(p->items, struct build_item, i);

                g_string_append_printf(s, "%s:%s ", build_change_name(item->change),
                                       build_item_path(p->new_tree, p->old_tree, item));
        }
        return g_string_free(s, FALSE);
}

static void end(struct pair *p)
{
        g_array_unref(p->items);
        build_tree_free(p->old_tree);
        build_tree_free(p->new_tree);
        tempdir_free(p->old_dir);
        tempdir_free(p->new_dir);
}

static void expect_plan(struct pair *p, const char *want)
{
        g_autofree char *got = plan(p, false);

        cr_expect(eq(str, got, (char *)want));
        end(p);
}

Test(release_build_plan, equal_trees_need_nothing)
{
        struct pair p = begin();

        both(&p, "a", "1");
        both_directories(&p, "d");
        both(&p, "d/b", "2");
        expect_plan(&p, "");
}

Test(release_build_plan, only_what_differs_is_put_in)
{
        struct pair p = begin();

        both_directories(&p, "d");
        both(&p, "d/same", "1");
        tempdir_put(p.old_dir, "d/size", "1", 1);
        tempdir_put(p.new_dir, "d/size", "12", 2);
        tempdir_put(p.old_dir, "d/bytes", "1", 1);
        tempdir_put(p.new_dir, "d/bytes", "2", 1);
        tempdir_put(p.new_dir, "d/new", "1", 1);
        both(&p, "d/mode", "1");
        cr_assert(eq(int, fchmodat(p.new_dir->fd, "d/mode", 0755, 0), 0));
        expect_plan(&p, "content:d/bytes metadata:d/mode create:d/new content:d/size ");
}

Test(release_build_plan, what_is_gone_is_deleted_with_all_below)
{
        struct pair p = begin();

        cr_assert(eq(int, mkdirat(p.old_dir->fd, "gone", 0755), 0));
        tempdir_put(p.old_dir, "gone/x", "1", 1);
        tempdir_put(p.old_dir, "old", "1", 1);
        both(&p, "stays", "1");
        expect_plan(&p, "delete:gone delete:gone/x delete:old ");
}

Test(release_build_plan, a_directory_that_became_a_link_takes_its_contents_along)
{
        struct pair p = begin();

        cr_assert(eq(int, mkdirat(p.old_dir->fd, "lib", 0755), 0));
        tempdir_put(p.old_dir, "lib/x", "1", 1);
        cr_assert(eq(int, symlinkat("usr/lib", p.new_dir->fd, "lib"), 0));
        expect_plan(&p, "type:lib delete:lib/x ");
}

Test(release_build_plan, a_link_with_other_text_differs_and_its_mode_does_not_count)
{
        struct pair p = begin();

        cr_assert(eq(int, symlinkat("a", p.old_dir->fd, "other"), 0));
        cr_assert(eq(int, symlinkat("b", p.new_dir->fd, "other"), 0));
        cr_assert(eq(int, symlinkat("a", p.old_dir->fd, "same"), 0));
        cr_assert(eq(int, symlinkat("a", p.new_dir->fd, "same"), 0));
        expect_plan(&p, "content:other ");
}

Test(release_build_plan, a_directory_is_left_out_unless_its_metadata_differs)
{
        struct pair p = begin();

        both_directories(&p, "plain");
        both_directories(&p, "stricter");
        cr_assert(eq(int, fchmodat(p.new_dir->fd, "stricter", 0700, 0), 0));
        tempdir_put(p.new_dir, "plain/new", "1", 1);
        expect_plan(&p, "create:plain/new metadata:stricter ");
}

Test(release_build_plan, time_alone_counts_only_when_asked_for)
{
        const struct timespec later[] = {{2000, 0}, {2000, 0}};
        struct pair p = begin();

        both(&p, "a", "1");
        both_directories(&p, "d");
        utimensat(p.new_dir->fd, "a", later, 0);
        utimensat(p.new_dir->fd, "d", later, 0);
        g_autofree char *strict = plan(&p, true);
        cr_expect(eq(str, strict, "metadata:a "));
        g_autoptr(GArray) relaxed = build_plan_make(p.new_tree, p.old_tree, false);
        cr_expect(eq(u32, relaxed->len, 0));
        end(&p);
}

Test(release_build_plan, all_names_of_a_changed_file_are_put_in)
{
        struct pair p = begin();

        tempdir_put(p.old_dir, "a", "1", 1);
        tempdir_put(p.new_dir, "a", "2", 1);
        cr_assert(eq(int, linkat(p.old_dir->fd, "a", p.old_dir->fd, "b", 0), 0));
        cr_assert(eq(int, linkat(p.new_dir->fd, "a", p.new_dir->fd, "b", 0), 0));
        cr_assert(eq(int, linkat(p.new_dir->fd, "a", p.new_dir->fd, "c", 0), 0));
        expect_plan(&p, "content:a content:b create:c ");
}

Test(release_build_plan, an_unchanged_name_comes_along_when_its_group_grows)
{
        struct pair p = begin();

        both(&p, "a", "1");
        cr_assert(eq(int, linkat(p.new_dir->fd, "a", p.new_dir->fd, "b", 0), 0));
        expect_plan(&p, "links:a create:b ");
}

Test(release_build_plan, joined_and_split_links_are_noticed)
{
        struct pair p = begin();

        both(&p, "a", "1");
        tempdir_put(p.old_dir, "b", "1", 1);
        cr_assert(eq(int, linkat(p.new_dir->fd, "a", p.new_dir->fd, "b", 0), 0));
        both(&p, "x", "2");
        tempdir_put(p.new_dir, "y", "2", 1);
        cr_assert(eq(int, linkat(p.old_dir->fd, "x", p.old_dir->fd, "y", 0), 0));
        g_autofree char *got = plan(&p, false);
        cr_expect(eq(str, got, "links:a links:b links:x links:y "));
        end(&p);
}

Test(release_build_plan, a_name_less_is_a_deletion_and_nothing_else)
{
        struct pair p = begin();

        both(&p, "a", "1");
        cr_assert(eq(int, linkat(p.old_dir->fd, "a", p.old_dir->fd, "b", 0), 0));
        expect_plan(&p, "delete:b ");
}

Test(release_build_plan, without_an_old_tree_everything_is_created)
{
        g_autoptr(TempDir) dir = tempdir_new();

        cr_assert(eq(int, mkdirat(dir->fd, "d", 0755), 0));
        tempdir_put(dir, "d/a", "1", 1);
        g_autoptr(BuildTree) tree = build_tree_scan(dir->path, &no_options, NULL, NULL);
        g_autoptr(GArray) items = build_plan_make(tree, NULL, false);
        cr_expect(eq(u32, items->len, 2));
        for (guint i = 0; i < items->len; i++)
                cr_expect(eq(int, (int)g_array_index(items, struct build_item, i).change, BUILD_CREATE));
}

Test(release_build_plan, entries_say_what_must_be_there)
{
        struct pair p = begin();
        g_autoptr(Hasher) h = hasher_new();
        uint8_t old_digest[DIGEST_SIZE];

        tempdir_put(p.old_dir, "a", "old", 3);
        tempdir_put(p.new_dir, "a", "newer", 5);
        cr_assert(eq(int, symlinkat("a", p.old_dir->fd, "b"), 0));
        cr_assert(eq(int, symlinkat("c", p.new_dir->fd, "b"), 0));
        tempdir_put(p.old_dir, "gone", "old", 3);
        tempdir_put(p.new_dir, "new", "1", 1);
        g_autofree char *got = plan(&p, false);
        cr_assert(eq(str, got, "content:a content:b delete:gone create:new "));
        verity_digest_buffer(h, "old", 3, old_digest);

        static const bool must_exist[] = {false, true, true, false};
        static const unsigned digests[] = {1, 0, 1, 0};
        for (guint i = 0; i < 4; i++) {
                BuildEntry e;

                build_entry_init(&e, p.new_tree, p.old_tree, &g_array_index(p.items, struct build_item, i),
                                 MOULT__DELIVERY__DELIVERY_AUTO);
                const Moult__Entry *m = build_entry_message(&e);
                cr_expect(eq(int, m->old_must_exist, must_exist[i]), "entry %u", i);
                cr_assert(eq(u64, m->n_old_digests, digests[i]), "entry %u", i);
                if (digests[i])
                        cr_expect(eq(int, memcmp(m->old_digests[0].data, old_digest, DIGEST_SIZE), 0));
                build_entry_clear(&e);
        }
        end(&p);
}
