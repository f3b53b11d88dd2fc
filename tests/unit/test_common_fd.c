/* tests/unit/test_common_fd.c - whole reads and writes, and files that are not what was expected. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "tests/support/tempdir.h"

TestSuite(fd, .timeout = 20);

Test(fd, pread_of_a_short_file_says_corrupt)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        char buf[8];
        tempdir_put(t, "short", "1234", 4);
        scoped_fd int fd = openat(t->fd, "short", O_RDONLY | O_CLOEXEC);
        cr_assert(fd_pread_all(fd, buf, 4, 0, "short", &error));
        cr_assert(not(fd_pread_all(fd, buf, 8, 0, "short", &error)));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_CORRUPT));
}

Test(fd, read_file_takes_exactly_the_limit_and_not_a_byte_more)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        tempdir_put(t, "f", "12345", 5);
        g_autoptr(GBytes) all = fd_read_file_at(t->fd, "f", 5, &error);
        cr_assert(ne(ptr, all, NULL));
        cr_expect(eq(sz, g_bytes_get_size(all), 5));
        g_autoptr(GBytes) none = fd_read_file_at(t->fd, "f", 4, &error);
        cr_assert(eq(ptr, none, NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_REFUSED));
}

Test(fd, read_file_of_a_fifo_is_refused_and_does_not_hang)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        cr_assert(eq(int, mkfifoat(t->fd, "pipe", 0600), 0));
        g_autoptr(GBytes) none = fd_read_file_at(t->fd, "pipe", 4, &error);
        cr_assert(eq(ptr, none, NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_REFUSED));
}

Test(fd, read_file_that_is_missing_says_not_found)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(GBytes) none = fd_read_file_at(t->fd, "nothing", 4, &error);
        cr_assert(eq(ptr, none, NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_NOT_FOUND));
}

Test(fd, a_write_that_fails_names_the_file)
{
        g_autoptr(GError) error = NULL;
        scoped_fd int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
        cr_assert(not(fd_write_all(fd, "x", 1, "the journal", &error)));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_NO_SPACE));
        cr_expect(ne(ptr, strstr(error->message, "the journal"), NULL));
}

/* Within a file system by the kernel, from /proc through us. */
Test(fd, a_piece_is_copied_to_its_own_place_and_nothing_else)
{
        g_autoptr(GError) error = NULL;
        scoped_fd int a = memfd_create("a", MFD_CLOEXEC), b = memfd_create("b", MFD_CLOEXEC),
                      proc = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
        char text[9] = "", first[4], second[4];

        cr_assert(fd_pwrite_all(a, "12345678", 8, 0, "a", &error));
        cr_expect(fd_copy_piece(a, b, 2, 3, "a", "b", &error));
        cr_expect(eq(int, (int)pread(b, text, 8, 0), 5));
        cr_expect(zero(int, memcmp(text, "\0\000345", 5)));
        cr_expect(fd_copy_piece(a, b, 6, 3, "a", "b", &error) == FALSE, "the file ends before");
        g_clear_error(&error);
        cr_expect(fd_copy_piece(proc, b, 0, 4, "proc", "b", &error));
        cr_expect(eq(int, (int)pread(b, first, 4, 0), 4));
        cr_expect(eq(int, (int)pread(proc, second, 4, 0), 4));
        cr_expect(zero(int, memcmp(first, second, 4)));
}
