/* tests/unit/test_cli_exit_code.c - one table of exit codes, and documents that say the same. */
#include "host-service/cli/exit_code.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <gio/gio.h>

#include "common/error.h"

TestSuite(cli_exit_code, .timeout = 20);

Test(cli_exit_code, numbers_are_what_scripts_know)
{
        static const char *const names[] = {"ok",        "internal",    "usage",       "not-found",
                                            "refused",   "rolled-back", "unreachable", "partial",
                                            "conflict",  "untrusted",   "no-space",    "no-daemon",
                                            "cancelled", "corrupt",     "io",          "unsupported"};

        for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
                cr_expect(eq(str, (char *)exit_code_name((ExitCode)i), (char *)names[i]));
}

Test(cli_exit_code, every_class_of_error_has_one)
{
        for (MoultError code = 1; code < MOULT_ERROR_MAX; code++) {
                g_autoptr(GError) error = g_error_new_literal(MOULT_ERROR, (gint)code, "x");

                cr_expect(ne(int, (int)exit_code_of_error(error), EXIT_CODE_INTERNAL), "%s",
                          moult_error_name(code));
                cr_expect(eq(int, (int)exit_code_of_error(error),
                             (int)exit_code_of_name(moult_error_name(code))));
        }
}

Test(cli_exit_code, foreign_errors_are_mapped)
{
        g_autoptr(GError) cancelled = g_error_new_literal(G_IO_ERROR, G_IO_ERROR_CANCELLED, "x");
        g_autoptr(GError) option = g_error_new_literal(G_OPTION_ERROR, G_OPTION_ERROR_FAILED, "x");
        g_autoptr(GError) daemon = g_error_new_literal(CLI_ERROR, CLI_ERROR_DAEMON, "x");

        cr_expect(eq(int, (int)exit_code_of_error(NULL), EXIT_CODE_OK));
        cr_expect(eq(int, (int)exit_code_of_error(cancelled), EXIT_CODE_CANCELLED));
        cr_expect(eq(int, (int)exit_code_of_error(option), EXIT_CODE_USAGE));
        cr_expect(eq(int, (int)exit_code_of_error(daemon), EXIT_CODE_NO_DAEMON));
        cr_expect(eq(int, (int)exit_code_of_name("from-the-future"), EXIT_CODE_INTERNAL));
        cr_expect(eq(int, (int)exit_code_of_name(""), EXIT_CODE_OK));
        cr_expect(eq(int, (int)exit_code_of_name(NULL), EXIT_CODE_OK));
}

Test(cli_exit_code, several_results_have_a_common_code_or_are_partial)
{
        const ExitCode alike[] = {EXIT_CODE_REFUSED, EXIT_CODE_REFUSED};
        const ExitCode mixed[] = {EXIT_CODE_OK, EXIT_CODE_REFUSED};
        const ExitCode different[] = {EXIT_CODE_ROLLED_BACK, EXIT_CODE_REFUSED};

        cr_expect(eq(int, (int)exit_code_combine(alike, 2), EXIT_CODE_REFUSED));
        cr_expect(eq(int, (int)exit_code_combine(mixed, 2), EXIT_CODE_PARTIAL));
        cr_expect(eq(int, (int)exit_code_combine(different, 2), EXIT_CODE_PARTIAL));
        cr_expect(eq(int, (int)exit_code_combine(NULL, 0), EXIT_CODE_OK));
}

static char *read_document(const char *name)
{
        g_autofree char *path = g_build_filename(MOULT_SOURCE_DIR, "docs", name, NULL);
        char *text = NULL;

        cr_assert(g_file_get_contents(path, &text, NULL, NULL), "%s", path);
        return text;
}

Test(cli_exit_code, the_documents_say_the_same)
{
        g_autofree char *page = read_document("exit-codes.md");
        g_autofree char *manual = read_document("man/moult.1");
        unsigned rows = 0;

        for (const struct exit_code_row *r = exit_code_table(); r->name; r++, rows++) {
                g_autofree char *line =
                        g_strdup_printf("\n| %d | `%s` | %s |\n", (int)r->code, r->name, r->meaning);
                g_autofree char *item = g_strdup_printf("\n.It %d Pq %s\n", (int)r->code, r->name);

                cr_expect(ne(ptr, strstr(page, line), NULL), "exit-codes.md lacks: %s", line);
                cr_expect(ne(ptr, strstr(manual, item), NULL), "moult.1 lacks: %s", item);
        }
        g_autoptr(GRegex) row = g_regex_new("^\\| [0-9]+ \\|", G_REGEX_MULTILINE, 0, NULL);
        g_autoptr(GMatchInfo) match = NULL;
        unsigned found = 0;
        for (g_regex_match(row, page, 0, &match); g_match_info_matches(match); g_match_info_next(match, NULL))
                found++;
        cr_expect(eq(u32, found, rows), "exit-codes.md has a row that the program does not know");
}
