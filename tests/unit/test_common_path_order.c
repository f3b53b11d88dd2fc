/* tests/unit/test_common_path_order.c - the order of a walk. */
#include "common/path_order.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stddef.h>

Test(common_path_order, a_directory_then_what_is_in_it_then_what_follows)
{
        static const char *const walked[] = {"", "a", "a/b", "a/b/c", "a/c", "a!", "a-b", "a0", "b"};

        for (size_t i = 0; i < sizeof walked / sizeof *walked; i++)
                for (size_t j = 0; j < sizeof walked / sizeof *walked; j++) {
                        int order = path_order(walked[i], walked[j]);

                        cr_expect(eq(int, (order > 0) - (order < 0), (i > j) - (i < j)), "%s, %s", walked[i],
                                  walked[j]);
                }
}

Test(common_path_order, bytes_are_unsigned)
{
        cr_expect(gt(int, path_order("\xff", "a"), 0));
        cr_expect(lt(int, path_order("a/\xff", "a\x01"), 0));
}
