/* host-service/cli/release_import.c - moult release import: give a pack to moultd. */
#include "host-service/cli/commands.h"
#include "host-service/cli/follow.h"
#include "host-service/cli/output.h"
#include "host-service/cli/push_result.h"
#include "host-service/cli/remote.h"

static ExitCode import(Cli *cli, const char *file, gboolean detach, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = g_canonicalize_filename(file, NULL);
        JsonObject *body = json_object_new();

        json_object_set_string_member(body, "path", path);
        g_autoptr(JsonNode) answer = client_post(c, "/v1/releases", body, NULL, error);
        if (!answer)
                return EXIT_CODE_INTERNAL;
        if (detach)
                return remote_finish(cli, c, answer, TRUE, error);
        const char *id = remote_operation_id(answer, error);
        g_autoptr(JsonNode) end = id ? follow_operation(cli, c, id, error) : NULL;
        g_autoptr(JsonNode) operation = end ? remote_member(end, "operation", error) : NULL;
        if (!operation)
                return EXIT_CODE_INTERNAL;
        ExitCode code = operation_exit_code(operation);
        JsonObject *o = json_node_get_object(operation), *release = json_child(o, "result.release");
        if (code != EXIT_CODE_OK || !release) {
                operation_print(cli, operation);
                return code;
        }
        if (!output_machine(cli, operation))
                output_words(cli, "%s %s is %s moultd; 'moult push %s=%s VM...' brings it into VMs\n",
                             json_text(release, "name"), json_text(release, "version"),
                             json_flag(o, "result.already_there") ? "already in" : "now in",
                             json_text(release, "name"), json_text(release, "version"));
        return code;
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        gboolean detach = FALSE;
        const GOptionEntry entries[] = {
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not wait; print the job's id", NULL},
                {0},
        };

        if (!command_parse(self, cli, entries, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        return import(cli, argv[1], detach, error);
}

const struct command command_release_import = {
        .name = "import",
        .arguments = "FILE",
        .summary = "Give a pack to moultd, which verifies it and keeps a copy",
        .run = run,
};
