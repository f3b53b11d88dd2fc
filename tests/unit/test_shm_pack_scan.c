/* tests/unit/test_shm_pack_scan.c - data and holes, in blocks. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fd.h"
#include "shm/pack_scan.h"

TestSuite(pack_scan, .timeout = 20);

#define MIB (1024u * 1024u)

/* A memfd has holes wherever nothing was written, in pages. */
static int sparse(uint64_t size, const uint64_t *at, unsigned n)
{
        int fd = memfd_create("sparse", MFD_CLOEXEC);
        cr_assert(eq(int, ftruncate(fd, (off_t)size), 0));
        for (unsigned i = 0; i < n; i++)
                cr_assert(fd_pwrite_all(fd, "x", 1, (off_t)at[i], "sparse", NULL));
        return fd;
}

Test(pack_scan, empty_and_hole_have_no_data)
{
        static const uint64_t sizes[] = {0, 1, MIB};
        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_auto(pack_scan) s = {0};
                scoped_fd int fd = sparse(sizes[i], NULL, 0);
                Moult__Entry e = MOULT__ENTRY__INIT;
                cr_assert(pack_scan_fd(&s, fd, sizes[i], NULL));
                pack_scan_fill_extents(&s, &e);
                cr_expect(eq(u64, s.data_size, 0));
                cr_expect(eq(sz, e.n_extents, 0));
        }
}

Test(pack_scan, a_dense_file_has_no_extents)
{
        const uint64_t at[] = {0, 4096};
        g_auto(pack_scan) s = {0};
        scoped_fd int fd = sparse(4100, at, 2);
        Moult__Entry e = MOULT__ENTRY__INIT;
        cr_assert(pack_scan_fd(&s, fd, 4100, NULL));
        pack_scan_fill_extents(&s, &e);
        cr_expect(s.is_dense == TRUE);
        cr_expect(eq(u64, s.data_size, 4100));
        cr_expect(eq(sz, e.n_extents, 0));
}

Test(pack_scan, runs_are_whole_blocks_and_every_data_byte_is_found)
{
        const uint64_t at[] = {5000, 9000, 3 * MIB + 4095};
        g_auto(pack_scan) s = {0};
        scoped_fd int fd = sparse(3 * MIB + 4099, at, 3);
        Moult__Entry e = MOULT__ENTRY__INIT;
        cr_assert(pack_scan_fd(&s, fd, 3 * MIB + 4099, NULL));
        pack_scan_fill_extents(&s, &e);
        cr_assert(eq(sz, e.n_extents, 2));
        cr_expect(eq(u64, e.extents[0]->offset, 4096));
        cr_expect(eq(u64, e.extents[0]->length, 8192));
        cr_expect(eq(u64, e.extents[1]->offset, 3 * MIB));
        cr_expect(eq(u64, e.extents[1]->length, 4096));
        cr_expect(eq(u64, s.data_size, 12288));
        uint64_t offset;
        cr_expect(eq(u64, pack_scan_locate(&s, 0, &offset), 8192));
        cr_expect(eq(u64, offset, 4096));
        cr_expect(eq(u64, pack_scan_locate(&s, 8191, &offset), 1));
        cr_expect(eq(u64, offset, 12287));
        cr_expect(eq(u64, pack_scan_locate(&s, 8192, &offset), 4096));
        cr_expect(eq(u64, offset, 3 * MIB));
        for (size_t i = 0; i < e.n_extents; i++)
                moult__extent__free_unpacked(e.extents[i], NULL);
        g_free(e.extents);
}

Test(pack_scan, the_last_run_ends_with_the_file)
{
        const uint64_t at[] = {MIB};
        g_auto(pack_scan) s = {0};
        scoped_fd int fd = sparse(MIB + 3, at, 1);
        uint64_t offset;
        cr_assert(pack_scan_fd(&s, fd, MIB + 3, NULL));
        cr_expect(eq(u64, s.data_size, 3));
        cr_expect(eq(u64, pack_scan_locate(&s, 2, &offset), 1));
        cr_expect(eq(u64, offset, MIB + 2));
}
