/* host-service/cli/release_remove.c - moult release remove: take a release out of moultd's store. */
#include <string.h>

#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        if (!command_parse(self, cli, NULL, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        if (!strchr(argv[1], '=')) {
                command_usage_error(error, "what is removed must be named in full: %s=VERSION", argv[1]);
                return EXIT_CODE_USAGE;
        }
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = remote_release_path(c, argv[1], error);
        g_autoptr(JsonNode) answer = path ? client_delete(c, path, error) : NULL;
        if (answer && !output_machine(cli, answer))
                output_words(cli, "%s is removed; VMs that have it keep it\n", argv[1]);
        return EXIT_CODE_OK;
}

const struct command command_release_remove = {
        .name = "remove",
        .arguments = "NAME=VERSION",
        .summary = "Remove a release from moultd; VMs that have it keep it",
        .run = run,
};
