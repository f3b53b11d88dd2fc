/* tests/unit/test_release_scratch.c - what is put aside comes back as it was. */
#include "host-service/release/scratch.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"

TestSuite(release_scratch, .timeout = 60);

Test(release_scratch, pieces_come_back_one_by_one)
{
        g_autoptr(Scratch) s = scratch_new(NULL);
        char buf[8] = "";

        cr_assert(s != NULL);
        cr_assert(scratch_append(s, "abc", 3, NULL));
        cr_expect(eq(u64, scratch_size(s), 3));
        cr_assert(scratch_append(s, "defgh", 5, NULL));
        scoped_fd int second = scratch_open(s, 3, 5, NULL);
        scoped_fd int empty = scratch_open(s, 3, 0, NULL);
        cr_assert(second >= 0 && empty >= 0);
        cr_expect(eq(int, (int)read(second, buf, sizeof buf), 5));
        cr_expect(eq(int, memcmp(buf, "defgh", 5), 0));
        cr_expect(eq(int, (int)read(empty, buf, sizeof buf), 0));
}

Test(release_scratch, a_directory_that_is_not_there_is_named)
{
        g_autoptr(GError) error = NULL;

        g_setenv("TMPDIR", "/nonexistent", TRUE);
        cr_expect(eq(ptr, scratch_new(&error), NULL));
        cr_assert(error != NULL);
        cr_expect(strstr(error->message, "/nonexistent") != NULL, "%s", error->message);
}
