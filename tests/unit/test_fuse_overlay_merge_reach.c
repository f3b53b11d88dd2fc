/* tests/unit/test_fuse_overlay_merge_reach.c - who sees what is mounted in a namespace of our own. */
#include <criterion/criterion.h>

#include "fuse-overlay/merge_plan.h"
#include "fuse-overlay/merge_reach.h"
#include "tests/support/targets.h"

TestSuite(merge_reach, .timeout = 30);

#define MACHINE                                                                                              \
        "22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n"                                                    \
        "30 22 254:16 / /usr ro shared:7 - squashfs /dev/vdb ro\n"                                           \
        "31 22 254:32 / /opt ro - erofs /dev/vdc ro\n"

static void expect_hidden(const char *own, const char *want)
{
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "opt/a", "")->mount = "opt";
        changes_file(c, "usr/a", "")->mount = "usr";
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        g_autoptr(MergePlan) p = merge_plan(t, NULL, 0);
        g_autoptr(Target) merged =
                target_with_merges(t, (const struct target_merge *)(void *)p->merges->data, p->merges->len);
        g_autoptr(MountTable) ours = mount_table_parse(own), machine = mount_table_parse(MACHINE);
        cr_expect_str_eq(merge_reach_hidden(merged, ours, machine) ?: "", want);
}

Test(merge_reach, peers_of_the_machines_mounts_pass_it_on)
{
        expect_hidden("52 50 254:0 / / rw shared:1 - ext4 /dev/vda rw\n"
                      "60 52 254:16 / /usr ro shared:7 - squashfs /dev/vdb ro\n"
                      "61 52 254:32 / /opt ro shared:1 - erofs /dev/vdc ro\n",
                      "");
}

Test(merge_reach, slaves_as_a_service_managers_sandbox_has_them_do_not)
{
        /* shared, but among themselves */
        expect_hidden("52 50 254:0 / / rw shared:90 master:1 - ext4 /dev/vda rw\n"
                      "60 52 254:16 / /usr ro shared:91 master:7 - squashfs /dev/vdb ro\n"
                      "61 52 254:32 / /opt ro shared:1 - erofs /dev/vdc ro\n",
                      "usr");
}

Test(merge_reach, a_private_mount_passes_nothing_on)
{
        expect_hidden("52 50 254:0 / / rw shared:1 - ext4 /dev/vda rw\n"
                      "60 52 254:16 / /usr ro shared:7 - squashfs /dev/vdb ro\n"
                      "61 52 254:32 / /opt ro - erofs /dev/vdc ro\n",
                      "opt");
}

Test(merge_reach, what_is_mounted_on_top_counts)
{
        expect_hidden("52 50 254:0 / / rw shared:1 - ext4 /dev/vda rw\n"
                      "60 52 254:16 / /usr ro shared:7 - squashfs /dev/vdb ro\n"
                      "61 52 254:32 / /opt ro shared:1 - erofs /dev/vdc ro\n"
                      "62 60 0:40 / /usr ro - tmpfs none ro\n",
                      "usr");
}
