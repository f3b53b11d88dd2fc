/* tests/unit/test_snapshot_block_commands.c - what QEMU is told, word for word. */
#include "host-service/snapshot/block_commands.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

TestSuite(block_commands, .timeout = 10);

static void expect(JsonObject *got, const char *want)
{
        g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT), wanted = json_from_string(want, NULL);
        g_autofree char *text = NULL;

        json_node_take_object(node, got);
        text = json_to_string(node, FALSE);
        cr_expect(json_node_equal(node, wanted), "%s", text);
}

Test(block_commands, nothing_is_left_to_a_header)
{
        expect(block_add_image("n", "qcow2", "f", NULL, FALSE),
               "{\"driver\":\"qcow2\",\"node-name\":\"n\",\"file\":\"f\",\"backing\":null,\"read-only\":"
               "false,\"discard\":\"unmap\"}");
        expect(block_add_image("n", "qcow2", "f", "b", TRUE),
               "{\"driver\":\"qcow2\",\"node-name\":\"n\",\"file\":\"f\",\"backing\":\"b\",\"read-only\":"
               "true,\"discard\":\"unmap\"}");
        expect(block_add_image("n", "raw", "f", NULL, TRUE),
               "{\"driver\":\"raw\",\"node-name\":\"n\",\"file\":\"f\",\"read-only\":true,\"discard\":"
               "\"unmap\"}");
        expect(block_reopen("n", "f", "l"),
               "{\"options\":[{\"driver\":\"qcow2\",\"node-name\":\"n\",\"file\":\"f\",\"backing\":\"l\","
               "\"read-only\":false,\"discard\":\"unmap\"}]}");
        expect(block_reopen("n", "f", NULL),
               "{\"options\":[{\"driver\":\"qcow2\",\"node-name\":\"n\",\"file\":\"f\",\"backing\":null,"
               "\"read-only\":false,\"discard\":\"unmap\"}]}");
}

Test(block_commands, several_disks_are_put_on_others_at_one_instant)
{
        expect(block_reopen_with(block_reopen_with(NULL, block_reopen("n", "f", "l")),
                                 block_reopen("m", "g", "k")),
               "{\"options\":[{\"driver\":\"qcow2\",\"node-name\":\"n\",\"file\":\"f\",\"backing\":\"l\","
               "\"read-only\":false,\"discard\":\"unmap\"},"
               "{\"driver\":\"qcow2\",\"node-name\":\"m\",\"file\":\"g\",\"backing\":\"k\","
               "\"read-only\":false,\"discard\":\"unmap\"}]}");
}

Test(block_commands, a_top_is_taken_off_by_a_job)
{
        expect(block_commit("j", "n", "#block7"),
               "{\"job-id\":\"j\",\"device\":\"n\",\"base-node\":\"#block7\"}");
        expect(block_job_complete("j"), "{\"device\":\"j\"}");
        expect(block_nodes_flat(), "{\"flat\":true}");
}

Test(block_commands, a_file_becomes_read_only_by_itself_when_nobody_writes)
{
        expect(block_add_file("f", "/d/x", FALSE),
               "{\"driver\":\"file\",\"node-name\":\"f\",\"filename\":\"/d/x\",\"read-only\":false,"
               "\"auto-read-only\":true,\"discard\":\"unmap\"}");
        expect(block_add_file("f", "/d/x", TRUE), "{\"driver\":\"file\",\"node-name\":\"f\",\"filename\":\"/"
                                                  "d/x\",\"read-only\":true,\"discard\":\"unmap\"}");
        expect(block_del("f"), "{\"node-name\":\"f\"}");
}

Test(block_commands, a_top_that_is_put_on_another_file_keeps_how_it_is_cached)
{
        g_autoptr(JsonNode) node =
                json_from_string("{\"cache\":{\"writeback\":true,\"direct\":true,\"no-flush\":false},"
                                 "\"detect_zeroes\":\"on\"}",
                                 NULL);
        g_autoptr(JsonNode) odd = json_from_string("{\"cache\":{\"direct\":7},\"detect_zeroes\":[]}", NULL);

        expect(block_keep_options(block_reopen("n", "f", "l"), json_node_get_object(node)),
               "{\"options\":[{\"driver\":\"qcow2\",\"node-name\":\"n\",\"file\":\"f\",\"backing\":\"l\","
               "\"read-only\":false,\"discard\":\"unmap\",\"cache\":{\"direct\":true,\"no-flush\":false},"
               "\"detect-zeroes\":\"on\"}]}");
        expect(block_keep_options(block_reopen("n", "f", "l"), json_node_get_object(odd)),
               "{\"options\":[{\"driver\":\"qcow2\",\"node-name\":\"n\",\"file\":\"f\",\"backing\":\"l\","
               "\"read-only\":false,\"discard\":\"unmap\",\"cache\":{}}]}");
        expect(block_change_backing("n", "/d/x"),
               "{\"device\":\"n\",\"image-node-name\":\"n\",\"backing-file\":\"/d/x\"}");
}

Test(block_commands, a_drive_s_own_node_is_reopened_by_words_that_say_nothing_else)
{
        static const char *const odd[] = {"", "-d", "a b", "a\"", "a;b", "a\nquit", "a=b"};

        expect(block_reopen_drive("disk-0.a_b", "moult-m-1"),
               "{\"command-line\":\"qemu-io disk-0.a_b \\\"reopen -o backing=moult-m-1\\\"\"}");
        for (gsize i = 0; i < G_N_ELEMENTS(odd); i++) {
                cr_expect(block_reopen_drive(odd[i], "l") == NULL, "%s", odd[i]);
                cr_expect(block_reopen_drive("d", odd[i]) == NULL, "%s", odd[i]);
        }
}

Test(block_commands, all_disks_are_switched_in_one_transaction)
{
        expect(block_switch((const char *const[]){"a", "b"}, (const char *const[]){"x", "y"}, 2),
               "{\"actions\":[{\"type\":\"blockdev-snapshot\",\"data\":{\"node\":\"a\",\"overlay\":\"x\"}},"
               "{\"type\":\"blockdev-snapshot\",\"data\":{\"node\":\"b\",\"overlay\":\"y\"}}]}");
}

Test(block_commands, names_of_nodes_fit_and_differ)
{
        static const NodeRole roles[] = {NODE_NEXT_FILE, NODE_NEXT,        NODE_LAYER_FILE,
                                         NODE_LAYER,     NODE_MERGED_FILE, NODE_MERGED};
        g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

        for (guint disk = 0; disk < 64; disk++)
                for (gsize i = 0; i < G_N_ELEMENTS(roles); i++) {
                        char name[NODE_NAME_SIZE];

                        node_name(name, "01HF7YBKBWB2NZVZDMR1TRA8XA", disk, roles[i]);
                        cr_expect(strlen(name) < NODE_NAME_SIZE - 1, "it may have been cut: %s", name);
                        cr_expect(g_hash_table_add(seen, g_strdup(name)), "%s", name);
                }
}
