/* host-service/cli/history.c - moult history: a guest's generations, as it tells them itself. */
#include "common/error.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/push_result.h"
#include "host-service/cli/remote.h"
#include "host-service/cli/text.h"

static const struct column generation_columns[] = {
        {"GENERATION", "generation", COLUMN_TEXT},
        {"RELEASE", "release", COLUMN_TEXT},
        {"STATE", "phase", COLUMN_TEXT},
        {"TIME", "time", COLUMN_TIME},
        {"CAN GO BACK", "can_roll_back", COLUMN_TEXT},
        {"WHY", "text", COLUMN_TEXT},
        {0},
};

static const struct column push_columns[] = {
        {"JOB", "operation", COLUMN_TEXT},
        {"RELEASE", "release", COLUMN_TEXT},
        {"VERSION", "version", COLUMN_TEXT},
        {"STATE", "state", COLUMN_TEXT},
        {"TIME", "updated", COLUMN_TIME},
        {"WHY", "error.text", COLUMN_TEXT},
        {0},
};

static ExitCode show(Cli *cli, const char *vm, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = client_path("/v1/vms/%s/history", vm);
        g_autoptr(JsonNode) answer = client_get(c, path, error);

        if (!answer || output_machine(cli, answer))
                return EXIT_CODE_OK;
        JsonObject *o = JSON_NODE_HOLDS_OBJECT(answer) ? json_node_get_object(answer) : NULL;
        JsonArray *generations = o ? json_list(o, "generations") : NULL;
        const char *why = o ? json_text(o, "error.text") : NULL;
        if (generations)
                output_list(cli, json_object_get_member(o, "generations"), generation_columns,
                            "The guest has taken no release yet", error);
        else
                fprintf(cli->err, "moult: %s cannot be asked now: %s\n", vm, why ? why : "no answer");
        if (o && json_list(o, "pushes") && json_array_get_length(json_list(o, "pushes")) > 0) {
                output_words(cli, "\nWhat moultd remembers:\n");
                output_list(cli, json_object_get_member(o, "pushes"), push_columns, "", error);
        }
        return generations ? EXIT_CODE_OK : exit_code_of_name(why ? json_text(o, "error.code") : "timeout");
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        if (!command_parse(self, cli, NULL, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        return show(cli, argv[1], error);
}

const struct command command_history = {
        .name = "history",
        .arguments = "VM",
        .summary = "The releases that a VM has taken, and which can be taken back",
        .run = run,
};
