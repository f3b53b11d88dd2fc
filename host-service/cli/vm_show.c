/* host-service/cli/vm_show.c - moult vm show: one VM. */
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        static const struct column columns[] = {
                {"Name", "name", COLUMN_TEXT},
                {"Connected", "connected", COLUMN_TEXT},
                {"Over", "transport", COLUMN_TEXT},
                {"Software", "software", COLUMN_TEXT},
                {"Host name", "hostname", COLUMN_TEXT},
                {"Boot id", "boot_id", COLUMN_TEXT},
                {"Release", "last_release", COLUMN_TEXT},
                {"Labels", "labels", COLUMN_MAP},
                {"Agent", "agent", COLUMN_TEXT},
                {"QMP", "qmp", COLUMN_TEXT},
                {"libvirt", "libvirt", COLUMN_TEXT},
                {"Domain", "domain", COLUMN_TEXT},
                {"QMP connected", "qmp_connected", COLUMN_TEXT},
                {"Network", "network", COLUMN_TEXT},
                {"TLS key", "tls_fingerprint", COLUMN_TEXT},
                {"Waits to join", "join_pending", COLUMN_TEXT},
                {"Added", "created", COLUMN_TIME},
                {"Last seen", "last_seen", COLUMN_TIME},
                {0},
        };

        if (!command_parse(self, cli, NULL, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = client_path("/v1/vms/%s", argv[1]);
        g_autoptr(JsonNode) vm = remote_get_member(c, path, "vm", error);
        if (vm)
                output_object(cli, vm, columns, error);
        return EXIT_CODE_OK;
}

const struct command command_vm_show = {
        .name = "show",
        .arguments = "NAME",
        .summary = "One VM: its sockets, its agent, its release",
        .run = run,
};
