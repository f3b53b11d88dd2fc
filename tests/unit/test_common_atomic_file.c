/* tests/unit/test_common_atomic_file.c - old or new, never in between, and nothing left behind. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/fd.h"
#include "tests/support/tempdir.h"

TestSuite(atomic_file, .timeout = 20);

static void expect_content(TempDir *t, const char *name, const char *content)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GBytes) bytes = fd_read_file_at(t->fd, name, 1000, &error);
        cr_assert(ne(ptr, bytes, NULL), "%s", error != NULL ? error->message : "");
        g_autofree char *text = g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
        cr_expect(eq(str, text, (char *)content));
}

static unsigned count(TempDir *t)
{
        g_autoptr(GDir) dir = g_dir_open(t->path, 0, NULL);
        unsigned n = 0;
        while (g_dir_read_name(dir) != NULL)
                n++;
        return n;
}

Test(atomic_file, replaces_and_sets_the_mode_whatever_the_umask)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        struct stat st;
        umask(0077);
        cr_assert(atomic_file_write_at(t->fd, "state", "one", 3, 0644, &error));
        cr_assert(atomic_file_write_at(t->fd, "state", "two!", 4, 0644, &error));
        expect_content(t, "state", "two!");
        cr_assert(eq(int, fstatat(t->fd, "state", &st, 0), 0));
        cr_expect(eq(u32, st.st_mode & 07777, 0644));
        cr_expect(eq(u32, count(t), 1));
}

Test(atomic_file, takes_away_what_a_crash_left)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        tempdir_put(t, ".state.new", "half", 4);
        cr_assert(atomic_file_write_at(t->fd, "state", "one", 3, 0600, &error));
        expect_content(t, "state", "one");
        cr_expect(eq(u32, count(t), 1));
}

Test(atomic_file, of_several_writers_each_has_a_temporary_name_of_its_own)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        tempdir_put(t, ".state.new", "another's", 9);
        cr_assert(atomic_file_write_shared_at(t->fd, "state", "one", 3, 0600, &error));
        expect_content(t, "state", "one");
        expect_content(t, ".state.new", "another's");
        cr_expect(eq(u32, count(t), 2));
}

Test(atomic_file, does_not_follow_a_link_that_waits_at_the_temporary_name)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        tempdir_put(t, "victim", "safe", 4);
        cr_assert(eq(int, symlinkat("victim", t->fd, ".state.new"), 0));
        cr_assert(atomic_file_write_at(t->fd, "state", "one", 3, 0600, &error));
        expect_content(t, "victim", "safe");
}

#ifdef MOULT_FAULT_POINTS
static void expect_old_after(const char *fault, MoultError code)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        tempdir_put(t, "state", "old", 3);
        g_setenv("MOULT_FAULT", fault, TRUE);
        cr_assert(not(atomic_file_write_at(t->fd, "state", "new", 3, 0600, &error)));
        cr_expect(eq(int, moult_error_code(error), code));
        expect_content(t, "state", "old");
        cr_expect(eq(u32, count(t), 1));
}

Test(atomic_file, a_failed_sync_leaves_the_old_file)
{
        expect_old_after("atomic-file.fsync=enospc", MOULT_ERROR_NO_SPACE);
}

Test(atomic_file, a_failed_rename_leaves_the_old_file)
{
        expect_old_after("atomic-file.rename=eio", MOULT_ERROR_IO);
}
#endif
