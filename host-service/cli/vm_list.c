/* host-service/cli/vm_list.c - moult vm list: the VMs that moultd knows. */
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        static const struct column columns[] = {
                {"NAME", "name", COLUMN_TEXT},           {"CONNECTED", "connected", COLUMN_TEXT},
                {"OVER", "transport", COLUMN_TEXT},      {"QMP", "qmp_connected", COLUMN_TEXT},
                {"HOST NAME", "hostname", COLUMN_TEXT},  {"RELEASE", "last_release", COLUMN_TEXT},
                {"LAST SEEN", "last_seen", COLUMN_TIME}, {0},
        };

        if (!command_parse(self, cli, NULL, 0, 0, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autoptr(JsonNode) vms = remote_get_member(c, "/v1/vms", "vms", error);
        if (vms)
                output_list(cli, vms, columns, "No VMs yet; 'moult vm add' makes one known", error);
        return EXIT_CODE_OK;
}

const struct command command_vm_list = {.name = "list", .summary = "The VMs that moultd knows", .run = run};
