/* host-service/cli/failure.h - how an error is told: words for people, an object for programs. */
#pragma once

#include "host-service/cli/cli.h"
#include "host-service/cli/exit_code.h"

/* Prints @error to standard error; with --format json or yaml as {"error": {"code", "text", "exit_code"}}.
 * Returns the exit code. */
ExitCode failure_print(Cli *cli, const GError *error);
