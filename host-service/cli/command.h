/* host-service/cli/command.h - the table of subcommands: finding one, its options, its help.
 *
 * A command is one file that defines one `struct command`; the table of its group names it. A command's run()
 * parses its options into a struct of its own with command_parse(), and from there on only reads them. */
#pragma once

#include <stdbool.h>

#include "host-service/cli/cli.h"
#include "host-service/cli/exit_code.h"

struct command {
        const char *name;
        const char *arguments;                    /* for the usage line: "VM [OPTION...]" */
        const char *summary;                      /* one line, no full stop */
        const char *details;                      /* what --help prints below the options; may be NULL */
        const struct command *const *subcommands; /* NULL-terminated; then run is NULL */
        /* Returns the exit code; if @error is set, that decides instead. argv[0] is the command's own name.
         */
        ExitCode (*run)(const struct command *self, Cli *cli, int argc, char **argv, GError **error);
};

/* Walks from @root along the words of @argv, and runs what they name. */
ExitCode command_dispatch(const struct command *root, Cli *cli, int argc, char **argv, GError **error);

/* Parses the options @entries and those that every command has, wherever they stand among the arguments. On
 * TRUE, argv[1..argc) are between @min and @max positional arguments (@max 0 with @min 0: none; -1: any
 * number). FALSE: help was asked for and printed, or @error is set (CLI_ERROR_USAGE). */
bool command_parse(const struct command *self, Cli *cli, const GOptionEntry *entries, int min, int max,
                   int *argc, char ***argv, GError **error);

/* CLI_ERROR_USAGE with where to look for help. Returns FALSE. */
gboolean command_usage_error(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
