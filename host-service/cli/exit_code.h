/* host-service/cli/exit_code.h - what `moult` tells the program that called it: one table for code and
 * documents. */
#pragma once

#include <glib.h>

/* Errors of the command line itself, which no MoultError can say. */
#define CLI_ERROR (cli_error_quark())
GQuark cli_error_quark(void);
typedef enum {
        CLI_ERROR_USAGE,  /* unknown word, missing or malformed argument */
        CLI_ERROR_DAEMON, /* moultd cannot be reached */
} CliError;

/* Never renumbered: scripts depend on them. docs/exit-codes.md and moult(1) list them; a unit test compares.
 */
typedef enum {
        EXIT_CODE_OK = 0,
        EXIT_CODE_INTERNAL = 1,
        EXIT_CODE_USAGE = 2,
        EXIT_CODE_NOT_FOUND = 3,
        EXIT_CODE_REFUSED = 4,
        EXIT_CODE_ROLLED_BACK = 5,
        EXIT_CODE_UNREACHABLE = 6,
        EXIT_CODE_PARTIAL = 7,
        EXIT_CODE_CONFLICT = 8,
        EXIT_CODE_UNTRUSTED = 9,
        EXIT_CODE_NO_SPACE = 10,
        EXIT_CODE_NO_DAEMON = 11,
        EXIT_CODE_CANCELLED = 12,
        EXIT_CODE_CORRUPT = 13,
        EXIT_CODE_IO = 14,
        EXIT_CODE_UNSUPPORTED = 15,
} ExitCode;

struct exit_code_row {
        ExitCode code;
        const char *name;    /* stable word */
        const char *meaning; /* one line */
};

/* Ends with a row whose name is NULL. */
const struct exit_code_row *exit_code_table(void);
const char *exit_code_name(ExitCode code);

/* OK for NULL. Errors of domains that we do not know are INTERNAL. */
ExitCode exit_code_of_error(const GError *error);
/* From a MoultError's stable name as the API and its results give it ("not-found"); NULL or "" is OK. */
ExitCode exit_code_of_name(const char *error_name);
/* The code of several results together: the common one, or PARTIAL if some went well or they differ. */
ExitCode exit_code_combine(const ExitCode *codes, unsigned n);
