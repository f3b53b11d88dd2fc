/* tests/unit/test_release_predecessor.c - a new file's predecessor is found by its path. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "host-service/release/predecessor.h"
#include "tests/support/tempdir.h"

TestSuite(predecessor, .timeout = 30);

static void expect_family(const char *path, const char *want)
{
        g_autofree char *got = predecessor_family(path);

        cr_expect(eq(str, got, (char *)want));
}

Test(predecessor, a_family_is_a_path_without_its_numbers)
{
        expect_family("lib/modules/6.1.0-57-amd64/sha512.ko", "lib/modules/#-#-amd#/sha#.ko");
        expect_family("usr/lib/libx.so.1.2.3", "usr/lib/libx.so.#");
        expect_family("usr/lib/libx.so.1.10", "usr/lib/libx.so.#");
        expect_family("v1.", "v#.");
        expect_family("1..2", "#..#");
        expect_family("", "");
}

Test(predecessor, the_one_that_keeps_most_numbers_is_better)
{
        const char *path = "m/6.1.0-57/sha512.ko";

        cr_expect(predecessor_compare(path, "m/6.1.0-56/sha512.ko", "m/6.1.0-56/sha256.ko") > 0);
        cr_expect(predecessor_compare(path, "m/6.1.0-56/sha256.ko", "m/6.1.0-56/sha512.ko") < 0);
        cr_expect(predecessor_compare(path, "m/6.1.0-9/sha512.ko", "m/6.1.0-10/sha512.ko") < 0, "the newer");
        cr_expect(eq(int, predecessor_compare(path, "m/6.1.0-9/sha512.ko", "m/6.1.0-9/sha512.ko"), 0));
}

static void put(TempDir *t, const char *path, const char *content)
{
        g_autofree char *full = tempdir_path(t, path), *dir = g_path_get_dirname(full);

        cr_assert(eq(int, g_mkdir_with_parents(dir, 0755), 0));
        cr_assert(g_file_set_contents(full, content, -1, NULL));
}

static void expect_found(const Predecessors *p, const BuildTree *base, const char *path, const char *want)
{
        gssize i = predecessors_find(p, path);

        if (!want)
                cr_expect(eq(int, (int)i, -1), "%s", path);
        else
                cr_expect(i >= 0 && g_str_equal(build_tree_node(base, (unsigned)i)->path, want),
                          "%s: not %s but %s", path, want,
                          i >= 0 ? build_tree_node(base, (unsigned)i)->path : "none");
}

Test(predecessor, is_the_file_at_the_path_or_the_best_of_its_family)
{
        const struct build_tree_options options = {0};
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;

        put(t, "m/6.1.0-56/sha256.ko", "a");
        put(t, "m/6.1.0-56/sha512.ko", "b");
        put(t, "etc/conf1", "c");
        put(t, "etc/conf2", "");
        g_autoptr(BuildTree) base = build_tree_scan(t->path, &options, NULL, &error);
        cr_assert(base != NULL, "%s", error ? error->message : "");
        g_autoptr(Predecessors) p = predecessors_new(base);
        expect_found(p, base, "m/6.1.0-56/sha256.ko", "m/6.1.0-56/sha256.ko");
        expect_found(p, base, "m/6.1.0-57/sha256.ko", "m/6.1.0-56/sha256.ko");
        expect_found(p, base, "m/6.1.0-57/sha512.ko", "m/6.1.0-56/sha512.ko");
        expect_found(p, base, "m/6.1.0-57/sha384.ko", "m/6.1.0-56/sha512.ko");
        expect_found(p, base, "etc/conf2", "etc/conf1"); /* there is nothing in the one at its path */
        expect_found(p, base, "etc/other", NULL);
}
