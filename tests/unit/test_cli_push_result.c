/* tests/unit/test_cli_push_result.c - what became of a push, as a code and as words that say what to do. */
#include "host-service/cli/push_result.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

TestSuite(cli_push_result, .timeout = 20);

static ExitCode code_of(const char *push)
{
        g_autoptr(JsonNode) node = json_from_string(push, NULL);

        cr_assert(ne(ptr, node, NULL), "%s", push);
        return push_exit_code(json_node_get_object(node));
}

Test(cli_push_result, each_outcome_has_its_code)
{
        cr_expect(eq(int, (int)code_of("{\"state\":\"done\"}"), EXIT_CODE_OK));
        cr_expect(eq(int, (int)code_of("{\"state\":\"stage\"}"), EXIT_CODE_OK));
        cr_expect(eq(int, (int)code_of("{\"state\":\"rolled-back\",\"error\":{\"code\":\"health\"}}"),
                     EXIT_CODE_ROLLED_BACK));
        cr_expect(eq(int, (int)code_of("{\"state\":\"rolled-back\"}"), EXIT_CODE_ROLLED_BACK));
        cr_expect(eq(int,
                     (int)code_of("{\"state\":\"refused\",\"options\":{\"rollback\":true},"
                                  "\"error\":{\"code\":\"not-found\"}}"),
                     EXIT_CODE_NOT_FOUND));
        cr_expect(eq(int, (int)code_of("{\"state\":\"refused\",\"error\":{\"code\":\"not-found\"}}"),
                     EXIT_CODE_REFUSED));
        cr_expect(eq(int, (int)code_of("{\"state\":\"refused\",\"error\":{\"code\":\"drift\"}}"),
                     EXIT_CODE_REFUSED));
        cr_expect(eq(int, (int)code_of("{\"state\":\"refused\",\"error\":{\"code\":\"hook\"}}"),
                     EXIT_CODE_REFUSED));
        cr_expect(eq(int, (int)code_of("{\"state\":\"refused\"}"), EXIT_CODE_REFUSED));
        cr_expect(eq(int, (int)code_of("{\"state\":\"refused\",\"error\":{\"code\":\"untrusted\"}}"),
                     EXIT_CODE_UNTRUSTED));
        cr_expect(eq(int, (int)code_of("{\"state\":\"refused\",\"error\":{\"code\":\"no-space\"}}"),
                     EXIT_CODE_NO_SPACE));
        cr_expect(eq(int, (int)code_of("{\"state\":\"failed\",\"error\":{\"code\":\"timeout\"}}"),
                     EXIT_CODE_UNREACHABLE));
        cr_expect(eq(int, (int)code_of("{\"state\":\"failed\",\"error\":null}"), EXIT_CODE_INTERNAL));
        cr_expect(eq(int, (int)code_of("{\"state\":\"cancelled\"}"), EXIT_CODE_CANCELLED));
}

static ExitCode operation_code(const char *text)
{
        g_autoptr(JsonNode) node = json_from_string(text, NULL);

        cr_assert(ne(ptr, node, NULL), "%s", text);
        return operation_exit_code(node);
}

Test(cli_push_result, an_operation_has_the_code_of_its_pushes)
{
        cr_expect(eq(int, (int)operation_code("{\"state\":\"succeeded\",\"pushes\":[{\"state\":\"done\"}]}"),
                     EXIT_CODE_OK));
        cr_expect(eq(
                int,
                (int)operation_code("{\"operation\":{\"state\":\"partial\",\"pushes\":[{\"state\":\"done\"},"
                                    "{\"state\":\"refused\"}]}}"),
                EXIT_CODE_PARTIAL));
        cr_expect(eq(int,
                     (int)operation_code("{\"state\":\"failed\",\"pushes\":[{\"state\":\"refused\"},"
                                         "{\"state\":\"refused\"}]}"),
                     EXIT_CODE_REFUSED));
        cr_expect(eq(int,
                     (int)operation_code(
                             "{\"state\":\"failed\",\"pushes\":[],\"error\":{\"code\":\"untrusted\"}}"),
                     EXIT_CODE_UNTRUSTED));
        cr_expect(eq(int, (int)operation_code("{\"state\":\"failed\",\"pushes\":[]}"), EXIT_CODE_INTERNAL));
        cr_expect(
                eq(int, (int)operation_code("{\"state\":\"cancelled\",\"pushes\":[]}"), EXIT_CODE_CANCELLED));
        cr_expect(eq(int, (int)operation_code("[]"), EXIT_CODE_INTERNAL));
}

static void expect_words(const char *push, const char *want)
{
        g_autoptr(JsonNode) node = json_from_string(push, NULL);
        g_autofree char *got = push_words(json_node_get_object(node));

        cr_expect(eq(str, got, (char *)want));
}

Test(cli_push_result, success_says_what_changed_and_how_to_take_it_back)
{
        expect_words("{\"vm\":\"web-1\",\"state\":\"done\",\"release\":\"openssl\",\"version\":\"3.0.17-1\","
                     "\"entries_change\":14,\"entries_equal\":3,\"progress\":{\"bytes_total\":5242880},"
                     "\"staging_us\":1200000,\"switch_us\":4500,\"transport\":\"ivshmem\",\"generation\":3}",
                     "web-1: has openssl 3.0.17-1\n"
                     "  14 entries changed, 3 were as they should be\n"
                     "  staged 5.0 MiB in 1.2 s over ivshmem\n"
                     "  switched in 4.5 ms\n"
                     "  generation 3; 'moult rollback web-1' takes it back\n");
}

Test(cli_push_result, what_was_taken_back_since_is_not_said_to_be_there)
{
        expect_words("{\"vm\":\"v\",\"state\":\"done\",\"release\":\"a\",\"version\":\"1\",\"generation\":3,"
                     "\"switch_us\":4500,\"note\":\"the guest has taken it back since\"}",
                     "v: had a 1, but not any more: the guest has taken it back since\n");
}

Test(cli_push_result, what_was_merged_is_told_apart_from_what_was_overwritten)
{
        expect_words(
                "{\"vm\":\"v\",\"state\":\"done\",\"release\":\"a\",\"version\":\"1\",\"entries_change\":500,"
                "\"entries_equal\":0,\"entries_merged\":499}",
                "v: has a 1\n"
                "  500 entries changed, 0 were as they should be\n"
                "  499 of them where nothing can be written: merged over what is there\n");
}

Test(cli_push_result, who_still_runs_old_files_is_said)
{
        expect_words(
                "{\"vm\":\"v\",\"state\":\"done\",\"release\":\"a\",\"version\":\"1\",\"stale\":{"
                "\"known\":true,\"looked_at\":90,\"processes_total\":3,\"processes\":["
                "{\"pid\":12,\"command\":\"/sbin/x\",\"unit\":\"x.service\",\"files\":[\"/a\",\"/b\"],"
                "\"files_total\":5},{\"pid\":13,\"command\":\"\\u001b[31my\",\"unit\":null,"
                "\"files\":[\"/c\"],\"files_total\":1}],"
                "\"namespaces_total\":1,\"namespaces\":[{\"pid\":14,\"command\":\"z\",\"unit\":null,"
                "\"mounts\":[\"/usr\"],\"mounts_total\":1}],"
                "\"restarts\":[{\"unit\":\"x\",\"error\":null},{\"unit\":\"w\",\"error\":\"it failed\"}],"
                "\"incomplete\":\"2 were not seen\"}}",
                "v: has a 1\n"
                "  restarted x, which still ran replaced files\n"
                "  could not restart w: it failed\n"
                "  3 of 90 processes still run replaced files until they are restarted:\n"
                "    12 /sbin/x (x.service): /a, /b and 3 more\n"
                "    13 \\x1b[31my: /c\n"
                "    and 1 more processes; 'moult-agent stale' in the guest lists them\n"
                "  1 mount namespaces did not follow; who is in them sees the old files until restarted:\n"
                "    14 z: /usr\n"
                "  who still runs old files is not known of all: 2 were not seen\n");
        expect_words("{\"vm\":\"v\",\"state\":\"done\",\"release\":\"a\",\"version\":\"1\",\"stale\":{"
                     "\"known\":false,\"text\":\"the guest went away\"}}",
                     "v: has a 1\n"
                     "  who still runs old files is not known: the guest went away\n");
        expect_words("{\"vm\":\"v\",\"state\":\"done\",\"release\":\"a\",\"version\":\"1\",\"stale\":{"
                     "\"known\":true,\"looked_at\":9,\"processes_total\":0,\"processes\":[]}}",
                     "v: has a 1\n");
}

Test(cli_push_result, failure_says_why_and_what_to_do)
{
        expect_words(
                "{\"vm\":\"web-1\",\"state\":\"rolled-back\",\"release\":\"a\",\"version\":\"1\","
                "\"error\":{\"code\":\"health\",\"text\":\"hook check-web ended with 1\"},"
                "\"hook\":\"check-web\",\"hook_output\":\"connection \\u001b[31mrefused\\n\\nbye\\n\"}",
                "web-1: taken back, the old files are in place: hook check-web ended with 1\n"
                "  hook check-web said:\n"
                "    | connection \\x1b[31mrefused\n"
                "    | bye\n"
                "  what to do: the output says why; correct the release or the guest, then push again\n");
        expect_words("{\"vm\":\"web-1\",\"state\":\"refused\",\"error\":{\"code\":\"drift\",\"text\":\"2 "
                     "files\"}}",
                     "web-1: refused: 2 files\n"
                     "  what to do: --dry-run lists the files that were changed in the guest; --allow-drift "
                     "replaces "
                     "them\n");
}

Test(cli_push_result, a_rollback_that_failed_is_not_explained_with_a_push)
{
        expect_words(
                "{\"vm\":\"v\",\"state\":\"refused\",\"options\":{\"rollback\":true},"
                "\"error\":{\"code\":\"drift\",\"text\":\"2 files\"}}",
                "v: refused: 2 files\n"
                "  what to do: 'moult rollback --force v' takes it back although files were changed since\n");
        expect_words("{\"vm\":\"v\",\"state\":\"refused\",\"options\":{\"rollback\":true},"
                     "\"error\":{\"code\":\"refused\",\"text\":\"no\"}}",
                     "v: refused: no\n"
                     "  what to do: 'moult history v' lists the generations, and which can be rolled back\n");
        expect_words(
                "{\"vm\":\"v\",\"state\":\"failed\",\"options\":{\"rollback\":true},"
                "\"error\":{\"code\":\"timeout\",\"text\":\"gone\"}}",
                "v: failed: gone\n"
                "  what to do: see whether the VM runs and moult-agent answers ('moult vm show v'), then "
                "'moult rollback v' again\n");
        expect_words("{\"vm\":\"v\",\"state\":\"rolled-back\",\"error\":{\"code\":\"cancelled\","
                     "\"text\":\"late\"}}",
                     "v: taken back, the old files are in place: late\n");
}

Test(cli_push_result, a_dry_run_and_a_rollback_have_their_own_words)
{
        expect_words(
                "{\"vm\":\"v\",\"state\":\"done\",\"release\":\"a\",\"version\":\"1\",\"entries_change\":2,"
                "\"options\":{\"dry_run\":true}}",
                "v: a 1 would change 2 entries; nothing was changed\n");
        expect_words("{\"vm\":\"v\",\"state\":\"done\",\"release\":null,\"options\":{\"rollback\":true}}",
                     "v: is back at the generation before\n");
}
