/* host-service/cli/release_list.c - moult release list: the releases that moultd has. */
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        static const struct column columns[] = {
                {"NAME", "name", COLUMN_TEXT},          {"VERSION", "version", COLUMN_TEXT},
                {"ENTRIES", "entries", COLUMN_TEXT},    {"SIZE", "size", COLUMN_BYTES},
                {"CREATED", "created", COLUMN_TIME},    {"MANIFEST", "digest", COLUMN_DIGEST},
                {"SIGNED BY", "key_id", COLUMN_DIGEST}, {0},
        };

        if (!command_parse(self, cli, NULL, 0, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path =
                argc > 1 ? client_path("/v1/releases?name=%s", argv[1]) : g_strdup("/v1/releases");
        g_autoptr(JsonNode) releases = remote_get_member(c, path, "releases", error);
        if (releases)
                output_list(cli, releases, columns, "No releases yet; 'moult release import FILE' adds one",
                            error);
        return EXIT_CODE_OK;
}

const struct command command_release_list = {
        .name = "list",
        .arguments = "[NAME]",
        .summary = "The releases that moultd has, highest version first",
        .run = run,
};
