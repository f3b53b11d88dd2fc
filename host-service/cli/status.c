/* host-service/cli/status.c - moult status: how moultd is, at a glance. */
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        static const struct column columns[] = {
                {"moultd", "version", COLUMN_TEXT},
                {"Up (s)", "uptime_s", COLUMN_TEXT},
                {"VMs", "vms", COLUMN_TEXT},
                {"Connected", "vms_connected", COLUMN_TEXT},
                {"Releases", "releases", COLUMN_TEXT},
                {"Jobs that run", "operations_unfinished", COLUMN_TEXT},
                {"Last event", "event_last", COLUMN_TEXT},
                {"Trusted keys", "trust.keys", COLUMN_TEXT},
                {"in", "trust.directory", COLUMN_TEXT},
                {"Problem", "trust.problem", COLUMN_TEXT},
                {"TLS", "tls_listen", COLUMN_TEXT},
                {"TLS key", "tls_fingerprint", COLUMN_TEXT},
                {0},
        };

        if (!command_parse(self, cli, NULL, 0, 0, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autoptr(JsonNode) status = client_get(c, "/v1/status", error);
        if (status)
                output_object(cli, status, columns, error);
        return EXIT_CODE_OK;
}

const struct command command_status = {.name = "status", .summary = "What moultd is doing", .run = run};
