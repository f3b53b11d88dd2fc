/* host-service/cli/vm_set.c - moult vm set: the labels of a VM. */
#include "host-service/cli/client.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/labels.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"

static ExitCode set(Cli *cli, const char *name, const char *const *labels, const char *const *without,
                    GError **error)
{
        static const struct column columns[] = {
                {"Name", "name", COLUMN_TEXT},
                {"Labels", "labels", COLUMN_MAP},
                {0},
        };
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = client_path("/v1/vms/%s/labels", name);
        JsonObject *put = labels_to_json(labels, error), *body;
        JsonArray *remove;

        if (!put)
                return EXIT_CODE_USAGE;
        body = json_object_new();
        remove = json_array_new();
        for (; without && *without; without++)
                json_array_add_string_element(remove, *without);
        json_object_set_object_member(body, "set", put);
        json_object_set_array_member(body, "remove", remove);
        g_autoptr(JsonNode) answer = client_post(c, path, body, NULL, error);
        g_autoptr(JsonNode) vm = answer ? remote_member(answer, "vm", error) : NULL;
        if (vm)
                output_object(cli, vm, columns, error);
        return EXIT_CODE_OK;
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        g_auto(GStrv) labels = NULL, without = NULL;
        const GOptionEntry entries[] = {
                {"label", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &labels,
                 "Give it this label, or the label this value; may be repeated", "KEY=VALUE"},
                {"no-label", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &without,
                 "Take this label off; may be repeated", "KEY"},
                {0},
        };

        if (!command_parse(self, cli, entries, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        if (!labels && !without) {
                command_usage_error(error, "'moult vm set' needs --label KEY=VALUE or --no-label KEY");
                return EXIT_CODE_USAGE;
        }
        return set(cli, argv[1], (const char *const *)labels, (const char *const *)without, error);
}

const struct command command_vm_set = {
        .name = "set",
        .arguments = "NAME",
        .summary = "Set and take off a VM's labels",
        .details = "Labels name groups: 'moult push RELEASE --label role=web' is for the VMs that have it.",
        .run = run,
};
