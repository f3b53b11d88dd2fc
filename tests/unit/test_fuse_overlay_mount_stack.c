/* tests/unit/test_fuse_overlay_mount_stack.c - which mounts are ours: nobody else's mount is ever taken for a
 * merge.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>

#include "fuse-overlay/mount_stack.h"

#define ID    "0123456789abcdef0123456789abcdef"
#define TREES "/var/lib/moult/target/trees/"

TestSuite(mount_stack, .timeout = 20);

static gboolean look(const char *root, const char *type, const char *source, MergeMethod *ret_method,
                     char ret_id[static TARGET_ID_LENGTH + 1])
{
        g_autofree char *line =
                g_strdup_printf("36 35 98:0 %s /usr ro shared:7 - %s %s ro\n", root, type, source);
        g_autoptr(MountTable) t = mount_table_parse(line);
        cr_assert(eq(uint, mount_table_size(t), 1));
        cr_expect(eq(u64, mount_table_get(t, 0)->peer_group, 7));
        return mount_is_merge(mount_table_get(t, 0), TREES, ret_method, ret_id);
}

struct ours {
        char root[96], type[16], source[64];
        MergeMethod method;
};

ParameterizedTestParameters(mount_stack, ours)
{
        static struct ours cases[] = {
                {"/", "overlay", "moult-overlay-" ID, MERGE_OVERLAY},
                {"/", "fuse.moult", "moult-union-" ID, MERGE_UNION},
                {TREES ID, "ext4", "/dev/vda1", MERGE_BIND},
                {TREES ID "//deleted", "ext4", "/dev/vda1", MERGE_BIND},
        };
        return cr_make_param_array(struct ours, cases, G_N_ELEMENTS(cases));
}

ParameterizedTest(struct ours *c, mount_stack, ours)
{
        MergeMethod method = MERGE_AUTO;
        char id[TARGET_ID_LENGTH + 1] = "";
        cr_assert(look(c->root, c->type, c->source, &method, id));
        cr_expect(eq(int, (int)method, (int)c->method));
        cr_expect(eq(str, id, (char *)ID));
}

struct foreign {
        char root[96], source[64];
};

ParameterizedTestParameters(mount_stack, of_others)
{
        static struct foreign cases[] = {
                {"/", "overlay"},
                {"/", "moult-overlay-"},
                {"/", "moult-overlay-0123"},
                {"/", "moult-overlay-" ID "0"},
                {"/", "moult-overlay-0123456789ABCDEF0123456789abcdef"},
                {"/", "moult-auto-" ID},
                {"/", "moult-mirror-" ID},
                {"/", "moult-run"},
                {"/", "overlay-" ID},
                {TREES, "/dev/vda1"},
                {TREES "new-" ID, "/dev/vda1"},
                {TREES ID "/bin", "/dev/vda1"},
                {"/srv" TREES ID, "/dev/vda1"},
                {"/var/lib/moult/target/objects/01/" ID, "/dev/vda1"},
        };
        return cr_make_param_array(struct foreign, cases, G_N_ELEMENTS(cases));
}

ParameterizedTest(struct foreign *c, mount_stack, of_others)
{
        MergeMethod method = MERGE_AUTO;
        char id[TARGET_ID_LENGTH + 1] = "untouched";
        cr_expect(not(look(c->root, "ext4", c->source, &method, id)));
        cr_expect(eq(int, (int)method, (int)MERGE_AUTO));
        cr_expect(eq(str, id, (char *)"untouched"));
}

Test(mount_stack, a_tag_is_recognised_as_what_it_was_made_of)
{
        for (MergeMethod m = MERGE_OVERLAY; m <= MERGE_UNION; m++) {
                MergeMethod method = MERGE_AUTO;
                char id[TARGET_ID_LENGTH + 1];
                g_autofree char *tag = mount_tag(m, ID);
                cr_assert(look("/", "x", tag, &method, id));
                cr_expect(eq(int, (int)method, (int)m));
        }
}
