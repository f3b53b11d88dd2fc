/* tests/unit/test_common_glob_list.c - the first of many patterns, as fnmatch(3) alone would find it. */
#include "common/glob_list.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fnmatch.h>
#include <string.h>

TestSuite(glob_list, .timeout = 60);

static const char *const globs[] = {
        "etc/machine-id", "var/log/*", "*/.moult/*", "[ab]c", "a?c", "etc/\\*", "*", "", "\\a",
        "var/log",        "x*y",       "var/l[o"};

Test(glob_list, finds_what_fnmatch_finds)
{
        static const char *const paths[] = {
                "etc/machine-id",
                "etc/machine-id2",
                "etc/machine",
                "var/log/a/b",
                "var/log",
                "var/logs",
                "ac",
                "bc",
                "abc",
                "etc/*",
                "etc/x",
                "",
                "a",
                "xy",
                "x/y",
                "x",
                "a/.moult/b",
                ".moult/b",
                "var/l[o",
                "var/l[oo",
        };

        for (unsigned from = 0; from < G_N_ELEMENTS(globs); from++) {
                g_autoptr(GlobList) l = glob_list_new();

                for (unsigned i = from; i < G_N_ELEMENTS(globs); i++)
                        glob_list_add(l, globs[i], strlen(globs[i]));
                for (unsigned p = 0; p < G_N_ELEMENTS(paths); p++) {
                        gssize want = -1;

                        for (unsigned i = from; want < 0 && i < G_N_ELEMENTS(globs); i++)
                                if (fnmatch(globs[i], paths[p], 0) == 0)
                                        want = (gssize)(i - from);
                        cr_expect(glob_list_find(l, paths[p]) == want,
                                  "\"%s\" from pattern %u on: %zd, not %zd", paths[p], from,
                                  glob_list_find(l, paths[p]), want);
                }
        }
}

Test(glob_list, a_pattern_is_the_bytes_it_was_given_with)
{
        g_autoptr(GlobList) l = glob_list_new();

        cr_expect(glob_list_find(l, "a") == -1);
        glob_list_add(l, "abc", 2);
        cr_expect(glob_list_find(l, "ab") == 0);
        cr_expect(glob_list_find(l, "abc") == -1);
}
