/* tests/unit/test_guest_agent_link_port.c - the port is found by its name, whatever its number. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "guest-agent/link_port.h"
#include "tests/support/tempdir.h"

TestSuite(link_port, .timeout = 10);

static void make(TempDir *dir, const char *sub)
{
        g_autofree char *path = tempdir_path(dir, sub);

        cr_assert(zero(int, g_mkdir_with_parents(path, 0755)));
}

static char *find(TempDir *dir)
{
        g_autofree char *sysfs = tempdir_path(dir, "sys"), *dev = tempdir_path(dir, "dev");

        return link_port_find(sysfs, dev, LINK_PORT_NAME);
}

Test(link_port, is_found_by_the_name_in_sysfs)
{
        g_autoptr(TempDir) dir = tempdir_new();

        make(dir, "sys/vport0p1");
        make(dir, "sys/vport1p2");
        make(dir, "sys/vport3p1"); /* a console has no name */
        make(dir, "dev");
        tempdir_put(dir, "sys/vport0p1/name", "org.qemu.guest_agent.0\n", 23);
        tempdir_put(dir, "sys/vport1p2/name", LINK_PORT_NAME "\n", sizeof LINK_PORT_NAME);
        tempdir_put(dir, "dev/vport0p1", "", 0);
        g_autofree char *none = find(dir);
        cr_expect(eq(ptr, none, NULL), "the node is not there yet");
        tempdir_put(dir, "dev/vport1p2", "", 0);
        g_autofree char *found = find(dir), *want = tempdir_path(dir, "dev/vport1p2");
        cr_assert(ne(ptr, found, NULL));
        cr_expect(eq(str, found, want));
}

Test(link_port, is_found_by_the_link_of_udev)
{
        g_autoptr(TempDir) dir = tempdir_new();

        make(dir, "dev/virtio-ports");
        tempdir_put(dir, "dev/virtio-ports/" LINK_PORT_NAME, "", 0);
        g_autofree char *found = find(dir);
        cr_expect(ne(ptr, found, NULL));
}
