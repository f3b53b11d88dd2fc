/* host-service/cli/vm_list.c - moult vm list: the VMs that moultd knows. */
#include "host-service/cli/client.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/labels.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        static const struct column columns[] = {
                {"NAME", "name", COLUMN_TEXT},
                {"CONNECTED", "connected", COLUMN_TEXT},
                {"OVER", "transport", COLUMN_TEXT},
                {"QMP", "qmp_connected", COLUMN_TEXT},
                {"HOST NAME", "hostname", COLUMN_TEXT},
                {"RELEASE", "last_release", COLUMN_TEXT},
                {"LAST SEEN", "last_seen", COLUMN_TIME},
                {"LABELS", "labels", COLUMN_MAP},
                {0},
        };
        g_auto(GStrv) labels = NULL;
        const GOptionEntry entries[] = {
                {"label", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &labels,
                 "Only those with this label; repeated: with all of them", "KEY=VALUE"},
                {0},
        };

        if (!command_parse(self, cli, entries, 0, 0, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = labels_path("/v1/vms", (const char *const *)labels, error);
        g_autoptr(JsonNode) vms = path ? remote_get_member(c, path, "vms", error) : NULL;
        if (vms)
                output_list(cli, vms, columns,
                            labels ? "No VM has these labels" : "No VMs yet; 'moult vm add' makes one known",
                            error);
        return EXIT_CODE_OK;
}

const struct command command_vm_list = {.name = "list", .summary = "The VMs that moultd knows", .run = run};
