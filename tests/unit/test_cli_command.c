/* tests/unit/test_cli_command.c - words find their command, options its struct, and mistakes an explanation.
 */
#include "host-service/cli/command.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "host-service/cli/release_build_options.h"

TestSuite(cli_command, .timeout = 20);

static ExitCode run_leaf(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        gboolean flag = FALSE;
        const GOptionEntry entries[] = {
                {"dry-run", 0, 0, G_OPTION_ARG_NONE, &flag, "Only look", NULL},
                {0},
        };

        if (!command_parse(self, cli, entries, 1, 2, &argc, &argv, error))
                return EXIT_CODE_OK;
        fprintf(cli->out, "leaf");
        for (int i = 1; i < argc; i++)
                fprintf(cli->out, " %s", argv[i]);
        fprintf(cli->out, "%s", flag ? " dry" : "");
        return EXIT_CODE_PARTIAL;
}

static ExitCode run_group(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        if (command_parse(self, cli, NULL, 0, 0, &argc, &argv, error))
                fprintf(cli->out, "group");
        return EXIT_CODE_OK;
}

static const struct command leaf = {
        .name = "leaf", .arguments = "A [B]", .summary = "A leaf", .run = run_leaf};
static const struct command *const in_group[] = {&leaf, NULL};
static const struct command group = {
        .name = "group", .summary = "A group that runs", .subcommands = in_group, .run = run_group};
static const struct command *const in_root[] = {&leaf, &group, NULL};
static const struct command root = {.name = "tool", .summary = "A tool", .subcommands = in_root};

struct outcome {
        ExitCode code;
        CliFormat format;
        char *out, *error;
};

static struct outcome dispatch(const char *line)
{
        g_auto(GStrv) argv = g_strsplit(line, " ", -1);
        g_autofree char **copy = g_memdup2(argv, (g_strv_length(argv) + 1) * sizeof *argv);
        struct outcome o = {0};
        size_t len = 0;
        Cli cli = {.out = open_memstream(&o.out, &len)};
        g_autoptr(GError) error = NULL;

        o.code = command_dispatch(&root, &cli, (int)g_strv_length(argv), copy, &error);
        if (error)
                o.code = exit_code_of_error(error);
        o.error = g_strdup(error ? error->message : "");
        o.format = cli.format;
        fclose(cli.out);
        cli_clear(&cli);
        return o;
}

static void outcome_clear(struct outcome *o)
{
        free(o->out);
        g_free(o->error);
}

static void expect_run(const char *line, const char *out, ExitCode code)
{
        struct outcome o = dispatch(line);

        cr_expect(eq(str, o.out, (char *)out), "%s: %s", line, o.error);
        cr_expect(eq(int, (int)o.code, (int)code), "%s", line);
        outcome_clear(&o);
}

Test(cli_command, words_lead_to_the_command_and_its_code_is_kept)
{
        expect_run("tool leaf x", "leaf x", EXIT_CODE_PARTIAL);
        expect_run("tool group leaf x y --dry-run", "leaf x y dry", EXIT_CODE_PARTIAL);
        expect_run("tool group", "group", EXIT_CODE_OK);
        expect_run("tool --json leaf x", "leaf x", EXIT_CODE_PARTIAL);
        expect_run("tool leaf -- --dry-run", "leaf --dry-run", EXIT_CODE_PARTIAL);
        expect_run("tool --version", "moult " MOULT_VERSION "\n", EXIT_CODE_OK);
}

Test(cli_command, the_format_is_taken_before_and_after_the_words)
{
        static const char *const lines[] = {"tool --json leaf x", "tool leaf x --json",
                                            "tool leaf --format=json x"};

        for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++) {
                struct outcome o = dispatch(lines[i]);

                cr_expect(eq(int, (int)o.format, CLI_FORMAT_JSON), "%s", lines[i]);
                outcome_clear(&o);
        }
}

static void expect_usage(const char *line, const char *text)
{
        struct outcome o = dispatch(line);

        cr_expect(eq(int, (int)o.code, EXIT_CODE_USAGE), "%s", line);
        cr_expect(ne(ptr, strstr(o.error, text), NULL), "%s: %s", line, o.error);
        cr_expect(eq(str, o.out, ""), "%s", line);
        outcome_clear(&o);
}

Test(cli_command, mistakes_are_answered_with_what_was_meant)
{
        expect_usage("tool", "needs a command");
        expect_usage("tool laef x", "did you mean 'leaf'?");
        expect_usage("tool xyzzy", "it has: leaf, group");
        expect_usage("tool group lefa x", "did you mean 'leaf'?");
        expect_usage("tool leaf", "needs A [B]");
        expect_usage("tool leaf a b c", "takes no argument 'c'");
        expect_usage("tool leaf a --dry-rnu", "did you mean --dry-run?");
        expect_usage("tool leaf a --nonsense", "Unknown option --nonsense");
        expect_usage("tool leaf a --format=xml", "one of table, json, yaml");
        expect_usage("tool leaf a --progress=loud", "one of auto, bar, plain, json, none");
        expect_usage("tool --nonsense leaf", "Unknown option --nonsense");
        expect_usage("tool leaf a --format", "Missing argument");
}

Test(cli_command, help_is_there_in_every_spelling)
{
        static const char *const lines[] = {"tool leaf --help", "tool help leaf", "tool leaf a -h",
                                            "tool --help leaf"};
        struct outcome first = dispatch(lines[0]);

        cr_expect(ne(ptr, strstr(first.out, "Usage: tool leaf A [B] [OPTION...]\n\nA leaf\n"), NULL), "%s",
                  first.out);
        cr_expect(ne(ptr, strstr(first.out, "Options:\n  --dry-run"), NULL), "%s", first.out);
        for (unsigned i = 1; i < G_N_ELEMENTS(lines); i++) {
                struct outcome o = dispatch(lines[i]);

                cr_expect(eq(str, o.out, first.out), "%s", lines[i]);
                cr_expect(eq(int, (int)o.code, EXIT_CODE_OK), "%s", lines[i]);
                outcome_clear(&o);
        }
        outcome_clear(&first);
}

Test(cli_command, hooks_are_read_with_their_time_limit_and_name)
{
        struct release_hook h;

        cr_assert(build_hook_parse("health=/a/b,c.sh,timeout=1m30s,name=web", &h, NULL));
        cr_expect(eq(int, (int)h.stage, MOULT__HOOK_STAGE__HOOK_HEALTH));
        cr_expect(eq(str, h.path, "/a/b,c.sh"));
        cr_expect(eq(str, h.name, "web"));
        cr_expect(eq(u32, h.timeout_ms, 90000));
        g_free(h.path);
        g_free(h.name);
        cr_assert(build_hook_parse("pre=dir/x=y", &h, NULL));
        cr_expect(eq(str, h.path, "dir/x=y"));
        cr_expect(eq(str, h.name, "x=y"));
        cr_expect(eq(u32, h.timeout_ms, 30000));
        g_free(h.path);
        g_free(h.name);
}

Test(cli_command, malformed_hooks_are_usage_errors)
{
        static const char *const bad[] = {
                "", "pre", "pre=", "before=x", "pre=,timeout=3s", "pre=x,timeout=never", "pre=x,timeout=2h"};

        for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
                g_autoptr(GError) error = NULL;
                struct release_hook h;

                cr_expect(not(build_hook_parse(bad[i], &h, &error)), "%s", bad[i]);
                cr_expect(eq(int, (int)exit_code_of_error(error), EXIT_CODE_USAGE), "%s", bad[i]);
        }
}
