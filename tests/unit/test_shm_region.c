/* tests/unit/test_shm_region.c - shared memory that vanishes is an error of one read. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "shm/region.h"

TestSuite(region, .timeout = 60);

static int memory(size_t len)
{
        int fd = memfd_create("region", MFD_CLOEXEC);
        for (size_t i = 0; i < len; i++) {
                uint8_t byte = (uint8_t)(i * 31 / 7);
                cr_assert(eq(sz, (size_t)write(fd, &byte, 1), 1));
        }
        return fd;
}

Test(region, copies_what_is_there_from_any_offset)
{
        g_autoptr(GError) error = NULL;
        int fd = memory(8192);
        uint8_t all[8192], part[300];
        cr_assert(eq(sz, (size_t)pread(fd, all, sizeof all, 0), sizeof all));
        g_autoptr(Region) r = region_map(fd, 8192, FALSE, &error);
        cr_assert(ne(ptr, r, NULL));
        cr_expect(eq(u64, region_size(r), 8192));
        for (size_t offset = 0; offset < 130; offset++)
                for (size_t len = 0; len < 200; len += 13) {
                        cr_assert(region_copy_in(r, offset, part, len, &error));
                        cr_assert(len == 0 || memcmp(part, all + offset, len) == 0);
                }
        cr_expect(region_copy_in(r, 8192, part, 0, &error));
}

Test(region, a_range_outside_is_refused)
{
        g_autoptr(GError) error = NULL;
        uint8_t buf[16] = {7};
        g_autoptr(Region) r = region_map(memory(4096), 4096, FALSE, &error);
        static const uint64_t offsets[] = {4081, 4097, UINT64_MAX - 3};
        for (size_t i = 0; i < G_N_ELEMENTS(offsets); i++) {
                g_clear_error(&error);
                cr_expect(not(region_copy_in(r, offsets[i], buf, sizeof buf, &error)));
                cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_CORRUPT));
        }
        cr_expect(eq(u8, buf[0], 7));
}

Test(region, memory_that_was_cut_off_is_an_error_and_the_rest_stays_readable)
{
        g_autoptr(GError) error = NULL;
        g_autofree uint8_t *buf = g_malloc(12288);
        int fd = memory(12288);
        scoped_fd int again = dup(fd);
        g_autoptr(Region) r = region_map(fd, 12288, TRUE, &error);
        cr_assert(eq(int, ftruncate(again, 4096), 0));
        for (int i = 0; i < 3; i++) {
                g_clear_error(&error);
                cr_assert(not(region_copy_in(r, 0, buf, 12288, &error)));
                cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_IO));
                g_clear_error(&error);
                cr_assert(region_copy_in(r, 0, buf, 4096, &error));
        }
        gboolean writable;
        cr_expect(not(region_probe_writable(r, &writable, &error)));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_IO));
}

static gpointer fail_often(gpointer user)
{
        uint8_t buf[64];
        unsigned failed = 0;
        for (int i = 0; i < 500; i++) {
                failed += !region_copy_in(user, 4096, buf, sizeof buf, NULL);
                failed += !region_copy_in(user, 0, buf, sizeof buf, NULL);
        }
        return GUINT_TO_POINTER(failed);
}

Test(region, each_thread_meets_its_own_error)
{
        g_autoptr(GError) error = NULL;
        int fd = memory(8192);
        scoped_fd int again = dup(fd);
        g_autoptr(Region) r = region_map(fd, 8192, FALSE, &error);
        cr_assert(eq(int, ftruncate(again, 4096), 0));
        GThread *threads[3];
        for (unsigned i = 0; i < 3; i++)
                threads[i] = g_thread_new("fail", fail_often, r);
        for (unsigned i = 0; i < 3; i++)
                cr_expect(eq(u32, GPOINTER_TO_UINT(g_thread_join(threads[i])), 500));
}

static volatile sig_atomic_t others;
static void on_other(int number)
{
        others++;
}

Test(region, a_sigbus_that_is_not_ours_goes_to_whoever_had_it_before)
{
        g_autoptr(GError) error = NULL;
        signal(SIGBUS, on_other);
        g_autoptr(Region) r = region_map(memory(4096), 4096, FALSE, &error);
        raise(SIGBUS);
        cr_expect(eq(int, others, 1));
}

Test(region, the_probe_tells_a_writable_window_and_leaves_it_as_it_was)
{
        g_autoptr(GError) error = NULL;
        gboolean writable = FALSE;
        uint8_t before[8], after[8];
        g_autoptr(Region) r = region_map(memory(4096), 4096, TRUE, &error);
        cr_assert(region_copy_in(r, 4088, before, 8, &error));
        cr_assert(region_probe_writable(r, &writable, &error));
        cr_expect(writable == TRUE);
        cr_assert(region_copy_in(r, 4088, after, 8, &error));
        cr_expect(eq(int, memcmp(before, after, 8), 0));
}

/* Does what a prober did that stored the opposite of what it had found, all the time. */
struct inverter {
        volatile uint64_t *word;
        gint stop; /* atomic */
};

static gpointer invert(gpointer user)
{
        struct inverter *i = user;
        while (!g_atomic_int_get(&i->stop))
                *i->word = ~*i->word;
        return NULL;
}

Test(region, a_probe_is_not_taken_in_by_another_prober)
{
        g_autoptr(GError) error = NULL;
        scoped_fd int fd = memory(4096);
        uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        cr_assert(ne(ptr, page, MAP_FAILED));
        g_autoptr(Region) r = region_map(dup(fd), 4096, TRUE, &error);
        struct inverter i = {.word = (volatile uint64_t *)(void *)(page + 4088)};
        GThread *thread = g_thread_new("invert", invert, &i);
        unsigned wrong = 0;
        for (int n = 0; n < 3000000; n++) {
                gboolean writable = FALSE;
                wrong += !region_probe_writable(r, &writable, &error) || !writable;
        }
        g_atomic_int_set(&i.stop, 1);
        g_thread_join(thread);
        munmap(page, 4096);
        cr_expect(eq(u32, wrong, 0));
}

Test(region, a_source_whose_pack_is_gone_fails_instead_of_giving_other_bytes)
{
        g_autoptr(GError) error = NULL;
        scoped_fd int fd = memory(8192);
        uint8_t part[300], ones[8192];
        Region *r = region_map(dup(fd), 8192, FALSE, &error);
        cr_assert(ne(ptr, r, NULL));
        g_autoptr(PackSource) source = pack_source_region_new(r, 1, "window");
        cr_assert(pack_source_read(source, 4000, part, sizeof part, NULL, &error));

        /* What loads from an unplugged device's BAR give. */
        memset(ones, 0xff, sizeof ones);
        cr_assert(eq(sz, (size_t)pwrite(fd, ones, sizeof ones, 0), sizeof ones));
        cr_expect(not(pack_source_read(source, 4000, part, sizeof part, NULL, &error)));
        cr_expect(eq(int, (int)moult_error_code(error), MOULT_ERROR_IO));
}

Test(region, sizes_of_nothing_and_of_everything_are_refused)
{
        g_autoptr(GError) error = NULL;
        cr_expect(eq(ptr, region_map(memory(1), 0, FALSE, &error), NULL));
        g_clear_error(&error);
        cr_expect(eq(ptr, region_map(memory(1), UINT64_MAX, FALSE, &error), NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_REFUSED));
}
