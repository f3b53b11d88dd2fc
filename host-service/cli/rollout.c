/* host-service/cli/rollout.c - moult rollout: pushes in waves, after they were begun with `moult push`. */
#include <string.h>

#include "common/error.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/follow.h"
#include "host-service/cli/output.h"
#include "host-service/cli/push_result.h"
#include "host-service/cli/remote.h"
#include "host-service/cli/rollout_print.h"

static ExitCode run_list(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        static const struct column columns[] = {
                {"ROLLOUT", "id", COLUMN_TEXT},
                {"RELEASE", "request.release", COLUMN_TEXT},
                {"VERSION", "request.version", COLUMN_TEXT},
                {"STATE", "rollout.state", COLUMN_TEXT},
                {"VMS", "rollout.counts.total", COLUMN_TEXT},
                {"DONE", "rollout.counts.done", COLUMN_TEXT},
                {"WAIT", "rollout.counts.waiting", COLUMN_TEXT},
                {"CREATED", "created", COLUMN_TIME},
                {"WHY", "rollout.text", COLUMN_TEXT},
                {0},
        };

        if (!command_parse(self, cli, NULL, 0, 0, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autoptr(JsonNode) list = remote_get_member(c, "/v1/rollouts", "rollouts", error);
        if (list)
                output_list(cli, list, columns, "No rollouts yet; 'moult push RELEASE --all' begins one",
                            error);
        return EXIT_CODE_OK;
}

static ExitCode run_show(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        static const struct column columns[] = {
                {"VM", "vm", COLUMN_TEXT},          {"WAVE", "wave", COLUMN_TEXT},
                {"STATE", "state", COLUMN_TEXT},    {"SINCE", "updated", COLUMN_TIME},
                {"WHY", "error.text", COLUMN_TEXT}, {0},
        };

        if (!command_parse(self, cli, NULL, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = client_path("/v1/operations/%s", argv[1]);
        g_autoptr(JsonNode) operation = remote_get_member(c, path, "operation", error);
        JsonObject *rollout = operation ? rollout_of(operation_of(operation)) : NULL;
        if (!operation)
                return EXIT_CODE_INTERNAL;
        if (!rollout) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "job %s is no rollout; 'moult jobs show %s' shows it", argv[1], argv[1]);
                return EXIT_CODE_NOT_FOUND;
        }
        if (output_machine(cli, operation))
                return EXIT_CODE_OK;
        g_autofree char *words = rollout_words(rollout);
        g_autoptr(JsonNode) pushes = remote_member(operation, "pushes", error);
        fputs(words, cli->out);
        if (pushes)
                output_list(cli, pushes, columns, "", error);
        return EXIT_CODE_OK;
}

/* Says it; then, unless @detach, follows the rollout until it rests. */
static ExitCode say(Cli *cli, const char *id, const char *verb, JsonObject *body, gboolean detach,
                    GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = client_path("/v1/rollouts/%s/", id), *whole = g_strconcat(path, verb, NULL);
        g_autoptr(JsonNode) answer = client_post(c, whole, body, NULL, error);

        if (!answer)
                return EXIT_CODE_INTERNAL;
        if (!detach)
                return remote_finish(cli, c, answer, FALSE, error);
        g_autoptr(JsonNode) operation = remote_member(answer, "operation", error);
        JsonObject *rollout = operation ? rollout_of(operation_of(operation)) : NULL;
        if (rollout && !output_machine(cli, operation)) {
                g_autofree char *words = rollout_words(rollout);

                fputs(words, cli->out);
        }
        return EXIT_CODE_OK;
}

static ExitCode run_stop(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        if (!command_parse(self, cli, NULL, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        return say(cli, argv[1], "stop", NULL, TRUE, error);
}

static ExitCode run_resume(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        gboolean detach = FALSE;
        const GOptionEntry entries[] = {
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not follow it", NULL},
                {0},
        };

        if (!command_parse(self, cli, entries, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        return say(cli, argv[1], "resume", NULL, detach, error);
}

static ExitCode run_abort(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        gboolean detach = FALSE, rollback = FALSE;
        const GOptionEntry entries[] = {
                {"rollback", 0, 0, G_OPTION_ARG_NONE, &rollback, "Take back what it has upgraded", NULL},
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not follow it", NULL},
                {0},
        };

        if (!command_parse(self, cli, entries, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        JsonObject *body = json_object_new();
        json_object_set_boolean_member(body, "rollback", rollback);
        return say(cli, argv[1], "abort", body, detach, error);
}

static const struct command list = {.name = "list", .summary = "Rollouts, newest first", .run = run_list};
static const struct command show = {
        .name = "show", .arguments = "ID", .summary = "One rollout, and how each VM is", .run = run_show};
static const struct command stop = {
        .name = "stop",
        .arguments = "ID",
        .summary = "Begin nothing more; what has begun is finished",
        .run = run_stop,
};
static const struct command resume = {
        .name = "resume",
        .arguments = "ID",
        .summary = "Go on after a stop, accepting the failures so far; or end a pause",
        .run = run_resume,
};
static const struct command abort_command = {
        .name = "abort",
        .arguments = "ID",
        .summary = "End it, and with --rollback take back what it has upgraded",
        .run = run_abort,
};
static const struct command *const subcommands[] = {&list, &show, &stop, &resume, &abort_command, NULL};

const struct command command_rollout = {
        .name = "rollout",
        .summary = "Pushes in waves: 'moult push --all' and the like begin them",
        .subcommands = subcommands,
};
