/* guest-agent/cli/command.c - option parsing and exit statuses that all subcommands share. */
#include "guest-agent/cli/command.h"

#include "common/error.h"

int command_exit_status(const GError *error)
{
        switch (moult_error_code(error)) {
        case MOULT_ERROR_NOT_FOUND:
                return AGENT_EXIT_NOT_FOUND;
        case MOULT_ERROR_REFUSED:
        case MOULT_ERROR_DRIFT:
        case MOULT_ERROR_NO_SPACE:
        case MOULT_ERROR_MALFORMED:
                return AGENT_EXIT_REFUSED;
        case MOULT_ERROR_UNTRUSTED:
                return AGENT_EXIT_UNTRUSTED;
        case MOULT_ERROR_BUSY:
                return AGENT_EXIT_BUSY;
        default:
                return AGENT_EXIT_FAILED;
        }
}

int command_fail(const GError *error)
{
        g_printerr("moult-agent: %s\n", error->message);
        return command_exit_status(error);
}

gboolean command_parse(int *argc, char ***argv, const GOptionEntry *entries, const char *usage,
                       const char *summary, int *ret_status)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *name = g_strdup((*argv)[0]);
        g_autofree char *program = g_strdup_printf("moult-agent %s", name);
        g_autoptr(GOptionContext) context = g_option_context_new(usage);

        g_option_context_set_summary(context, summary);
        g_option_context_add_main_entries(context, entries, NULL);
        g_option_context_set_help_enabled(context, FALSE);
        g_set_prgname(program);
        for (int i = 1; i < *argc; i++) {
                if (g_str_equal((*argv)[i], "--"))
                        break;
                if (g_str_equal((*argv)[i], "--help") || g_str_equal((*argv)[i], "-h")) {
                        g_autofree char *help = g_option_context_get_help(context, TRUE, NULL);
                        g_print("%s", help);
                        *ret_status = AGENT_EXIT_OK;
                        return FALSE;
                }
        }
        if (!g_option_context_parse(context, argc, argv, &error)) {
                g_printerr("%s: %s\nTry \"%s --help\".\n", program, error->message, program);
                *ret_status = AGENT_EXIT_USAGE;
                return FALSE;
        }
        return TRUE;
}
