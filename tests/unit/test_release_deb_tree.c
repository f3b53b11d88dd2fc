/* tests/unit/test_release_deb_tree.c - packages as a tree: conffiles, and what is no package. Real packages
 * are in tests/integration/test_capture.py. */
#include "host-service/release/deb_tree.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "tests/support/tempdir.h"

TestSuite(release_deb_tree, .timeout = 60);

Test(release_deb_tree, conffiles_are_the_lines_that_begin_with_a_slash)
{
        g_autoptr(GHashTable) set = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        const char text[] = "/etc/a\nremove-on-upgrade /etc/b\n\n  /etc/c d  \n/\n/etc/last";

        deb_conffiles_parse(text, strlen(text), set);
        cr_expect(eq(int, (int)g_hash_table_size(set), 3));
        cr_expect(g_hash_table_contains(set, "etc/a"));
        cr_expect(g_hash_table_contains(set, "etc/c d"));
        cr_expect(g_hash_table_contains(set, "etc/last"));
}

Test(release_deb_tree, what_is_no_package_is_refused_by_name)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        const struct build_tree_options options = {0};

        tempdir_put(t, "x.deb", "hello", 5);
        g_autofree char *path = g_build_filename(t->path, "x.deb", NULL);
        const char *const paths[] = {path, NULL};
        cr_expect(eq(ptr, deb_tree_read(paths, &options, NULL, NULL, &error), NULL));
        cr_assert(error != NULL);
        cr_expect(eq(int, error->code, MOULT_ERROR_REFUSED));
        cr_expect(strstr(error->message, "x.deb cannot be read as a Debian package") != NULL, "%s",
                  error->message);
}
