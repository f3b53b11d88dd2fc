/* host-service/cli/vm_remove.c - moult vm remove: forget a VM. */
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        if (!command_parse(self, cli, NULL, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = client_path("/v1/vms/%s", argv[1]);
        g_autoptr(JsonNode) answer = client_delete(c, path, error);
        if (answer && !output_machine(cli, answer))
                output_words(cli, "%s is forgotten; nothing in it was changed\n", argv[1]);
        return EXIT_CODE_OK;
}

const struct command command_vm_remove = {
        .name = "remove",
        .arguments = "NAME",
        .summary = "Forget a VM; nothing in it is changed",
        .run = run,
};
