/* tests/unit/test_release_build_filter.c - what does not go into a release, and what has to stay together. */
#include "host-service/release/build_filter.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <sys/stat.h>

TestSuite(release_build_filter, .timeout = 60);

static void nothing_to_free(gpointer self)
{
}

static const struct build_tree_source no_source = {.free = nothing_to_free};

/* Words: "d:dir f:file c:conffile =:another-name-of-the-file-before" */
static BuildTree *tree(const char *words)
{
        BuildTree *t = build_tree_new("a tree", &no_source, NULL);
        g_auto(GStrv) list = g_strsplit(words, " ", -1);
        ino_t ino = 0;

        for (unsigned i = 0; list[i] && *list[i]; i++) {
                struct tree_node n = {.path = g_strdup(list[i] + 2), .has_digest = true};

                n.mode = list[i][0] == 'd' ? S_IFDIR | 0755 : S_IFREG | 0644;
                n.conffile = list[i][0] == 'c';
                n.ino = list[i][0] == '=' ? ino : ++ino;
                build_tree_add(t, &n);
        }
        build_tree_finish(t);
        return t;
}

/* Takes over nothing. Two texts, "/": what goes in, what was left out. */
static char *filtered(const char *new_words, const char *old_words, const struct build_filter *f)
{
        g_autoptr(BuildTree) new_tree = tree(new_words), old_tree = tree(old_words);
        g_autoptr(GArray) plan = build_plan_make(new_tree, old_tree, false);
        g_autoptr(GPtrArray) left_out = build_left_out_new();
        GString *s = g_string_new(NULL);

        build_filter_apply(f, new_tree, old_tree, plan, left_out);
        for (guint i = 0; i < plan->len; i++) {
                const struct build_item *item = &g_array_index(plan, struct build_item, i);

                g_string_append_printf(s, "%s:%s ", build_change_name(item->change),
                                       build_item_path(new_tree, old_tree, item));
        }
        g_string_append(s, "/");
        for (guint i = 0; i < left_out->len; i++)
                g_string_append_printf(s, " %s",
                                       ((struct build_left_out *)g_ptr_array_index(left_out, i))->path);
        return g_string_free(s, FALSE);
}

static void expect(const char *new_words, const char *old_words, const struct build_filter *f,
                   const char *want)
{
        g_autofree char *got = filtered(new_words, old_words, f);

        cr_expect(eq(str, got, (char *)want));
}

#define LIST(text) per_vm_list_parse(text, strlen(text), "LIST", NULL)

Test(release_build_filter, a_capture_leaves_out_both_classes_and_a_build_reports_identities)
{
        g_autoptr(PerVmList) l = LIST("[identity]\nid ID\n[noise]\nlog LOG\n");

        expect("f:id f:log f:x", "", &(struct build_filter){.per_vm = l, .leave_out = TRUE},
               "create:x / id log");
        expect("f:id f:log f:x", "", &(struct build_filter){.per_vm = l}, "create:log create:x / id");
}

Test(release_build_filter, what_is_allowed_goes_in)
{
        g_autoptr(PerVmList) l = LIST("[identity]\nid ID\n");
        const char *const allowed[] = {"/id", NULL};

        expect("f:id", "", &(struct build_filter){.per_vm = l, .leave_out = TRUE, .allow_per_vm = allowed},
               "create:id /");
}

Test(release_build_filter, include_takes_what_is_below_and_the_new_directories_above)
{
        const char *const include[] = {"/usr/lib", NULL};

        expect("d:usr d:usr/lib f:usr/lib/a f:usr/b f:c", "", &(struct build_filter){.include = include},
               "create:usr create:usr/lib create:usr/lib/a /");
        expect("d:usr d:usr/lib f:usr/lib/a f:usr/b", "d:usr d:usr/lib f:usr/lib/old f:usr/gone",
               &(struct build_filter){.include = include}, "create:usr/lib/a delete:usr/lib/old /");
}

Test(release_build_filter, names_of_one_file_stay_together)
{
        const char *const include[] = {"/b", NULL};
        g_autoptr(PerVmList) l = LIST("[identity]\nb ID\n");

        expect("f:a =:b f:c", "", &(struct build_filter){.include = include}, "create:a create:b /");
        expect("f:a =:b f:c", "", &(struct build_filter){.per_vm = l, .leave_out = TRUE}, "create:c / b");
}

Test(release_build_filter, a_directory_stays_for_what_was_left_out_below_it)
{
        g_autoptr(PerVmList) l = LIST("[noise]\nd/e/log LOG\n");

        expect("", "d:d d:d/e f:d/e/log f:d/x d:g", &(struct build_filter){.per_vm = l, .leave_out = TRUE},
               "delete:d/x delete:g / d/e/log");
}

Test(release_build_filter, packages_take_no_directory_and_no_conffile_away)
{
        expect("", "d:d c:d/conf f:d/x", &(struct build_filter){.keep_directories = TRUE}, "delete:d/x /");
}
