/* guest-agent/main.c - moult-agent: finds the subcommand and hands over. */
#include <locale.h>
#include <stdio.h>

#include "common/libcrypto.h"
#include "common/static_program.h"
#include "guest-agent/cli/command.h"
#include "guest-agent/cli/offline.h"
#include "guest-agent/cli/online.h"

static const struct agent_command commands[] = {
        {"answer", "Answer a host's questions about a tree, from a file", command_answer},
        {"apply", "Apply a pack from a file, without the daemon", command_apply},
        {"boot-ok", "The services are up: end the count of starts, or roll back", command_boot_ok},
        {"freeze-status", "Say whether file systems are frozen", command_freeze_status},
        {"freezer", "Hold a freeze (the daemon starts it)", command_freezer},
        {"history", "List the upgrades of this machine", command_history},
        {"plan", "Say what applying a pack would do", command_plan},
        {"recover", "Finish what a crash interrupted, without the daemon", command_recover},
        {"request", "Ask the host to upgrade files", command_request},
        {"rollback", "Take the newest upgrade back", command_rollback},
        {"run", "Be the daemon", command_run},
        {"stale", "List processes that still run replaced files", command_stale},
        {"status", "Say what the daemon does", command_status},
        {"thaw", "End a freeze of file systems", command_thaw},
        {"try", "Start as the daemon would, say hello to the host, and end (for a new agent)", command_try},
        {"which", "Say what serves a path now", command_which},
        {"version", "Print the version", command_version},
};

static void print_help(FILE *to)
{
        fprintf(to, "Usage: moult-agent COMMAND [OPTION...]\n\nUpgrades this machine's files as one "
                    "transaction.\n\n");
        for (gsize i = 0; i < G_N_ELEMENTS(commands); i++)
                fprintf(to, "  %-13s %s\n", commands[i].name, commands[i].summary);
        fprintf(to, "\n\"moult-agent COMMAND --help\" describes a command.\n");
}

int main(int argc, char **argv)
{
#ifdef MOULT_STATIC_PROGRAM
        static_program_start();
        setlocale(LC_CTYPE, "C.UTF-8"); /* where it is missing, other letters than ASCII are shown as "?" */
#else
        setlocale(LC_ALL, "");
#endif
        libcrypto_start();
        if (argc < 2) {
                print_help(stderr);
                return AGENT_EXIT_USAGE;
        }
        if (g_str_equal(argv[1], "help") || g_str_equal(argv[1], "--help") || g_str_equal(argv[1], "-h")) {
                print_help(stdout);
                return AGENT_EXIT_OK;
        }
        const char *name = g_str_equal(argv[1], "--version") ? "version" : argv[1];
        for (gsize i = 0; i < G_N_ELEMENTS(commands); i++)
                if (g_str_equal(name, commands[i].name))
                        return commands[i].handler(argc - 1, argv + 1);
        fprintf(stderr, "moult-agent: there is no command \"%s\". Try \"moult-agent help\".\n", argv[1]);
        return AGENT_EXIT_USAGE;
}
