/* host-service/cli/cli.h - what every subcommand is given: how to print, whom to ask, when to stop. */
#pragma once

#include <gio/gio.h>
#include <stdio.h>

typedef enum { CLI_FORMAT_TABLE, CLI_FORMAT_JSON, CLI_FORMAT_YAML } CliFormat;
/* AUTO: a bar on a terminal; elsewhere plain lines, or nothing if results are for programs. */
typedef enum {
        CLI_PROGRESS_AUTO,
        CLI_PROGRESS_BAR,
        CLI_PROGRESS_PLAIN,
        CLI_PROGRESS_JSON,
        CLI_PROGRESS_NONE
} CliProgress;

/* What docs and examples use for api-listen. */
#define CLI_DEFAULT_PORT   7444
#define CLI_DEFAULT_SOCKET "/run/moult-host/moultd.sock"
/* Where this host keeps the public keys whose releases it trusts; moultd uses the same. */
#define CLI_DEFAULT_TRUST "/etc/moult/trusted.d"

typedef struct {
        CliFormat format;
        CliProgress progress;
        char *socket;     /* owned; NULL: the environment, or the default */
        char *host;       /* owned; HOST[:PORT] of a moultd elsewhere; NULL: the environment, or none */
        char *token_file; /* owned; NULL: the environment, or the default */
        FILE *out;        /* results */
        FILE *err;        /* progress, warnings, errors */
        GCancellable *cancellable; /* fired by Ctrl-C and SIGTERM */
} Cli;

void cli_clear(Cli *cli);
const char *cli_socket(const Cli *cli);
/* HOST[:PORT] of a moultd to be asked over the network; NULL: the one behind cli_socket(). */
const char *cli_host(const Cli *cli);
