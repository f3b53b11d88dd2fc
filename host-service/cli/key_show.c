/* host-service/cli/key_show.c - moult key show: which key a file holds. */
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/public_key.h"

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        static const struct column columns[] = {
                {"Key id", "id", COLUMN_TEXT},
                {"Kind", "kind", COLUMN_TEXT},
                {0},
        };
        uint8_t id[DIGEST_SIZE];
        char hex[2 * DIGEST_SIZE + 1];
        bool is_private;

        if (!command_parse(self, cli, NULL, 1, 1, &argc, &argv, error) ||
            !public_key_id_of_file(argv[1], id, &is_private, error))
                return EXIT_CODE_OK;
        digest_to_hex(id, hex);
        JsonObject *o = json_object_new();
        g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), o);
        json_object_unref(o);
        json_object_set_string_member(o, "id", hex);
        json_object_set_string_member(o, "kind", is_private ? "private" : "public");
        output_object(cli, node, columns, error);
        return EXIT_CODE_OK;
}

const struct command command_key_show = {
        .name = "show",
        .arguments = "FILE",
        .summary = "Show the id of a private or public key",
        .run = run,
};
