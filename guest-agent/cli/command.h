/* guest-agent/cli/command.h - what a subcommand of moult-agent is. One file per command; main.c has the
 * table. */
#pragma once

#include <glib.h>

struct agent_command {
        const char *name;
        const char *summary; /* one line for `moult-agent help` */
        /* argv[0] is the command's name, the rest are its own arguments. Returns the exit status. */
        int (*handler)(int argc, char **argv);
};

/* The same table as `moult` has: docs/exit-codes.md. */
enum agent_exit {
        AGENT_EXIT_OK = 0,
        AGENT_EXIT_FAILED = 1,
        AGENT_EXIT_USAGE = 2,
        AGENT_EXIT_NOT_FOUND = 3,
        AGENT_EXIT_REFUSED = 4,     /* nothing was touched */
        AGENT_EXIT_ROLLED_BACK = 5, /* the old files are back */
        AGENT_EXIT_UNREACHABLE = 6,
        AGENT_EXIT_PARTIAL = 7,
        AGENT_EXIT_BUSY = 8,
        AGENT_EXIT_UNTRUSTED = 9,
};

/* The status for an error that ended a command. */
int command_exit_status(const GError *error);
/* Prints "moult-agent: MESSAGE" to stderr and returns command_exit_status(). */
int command_fail(const GError *error);
/* Parses @entries with GOption; "--help" prints and exits 0. @usage: what follows the command's name.
 * Positional arguments stay in argv. FALSE: @ret_status is set, return it. */
gboolean command_parse(int *argc, char ***argv, const GOptionEntry *entries, const char *usage,
                       const char *summary, int *ret_status);

/* Offline commands: no daemon needed, none may run. */
int command_version(int argc, char **argv);
