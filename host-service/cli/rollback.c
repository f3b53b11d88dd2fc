/* host-service/cli/rollback.c - moult rollback: take a VM's newest generation back. */
#include "host-service/cli/commands.h"
#include "host-service/cli/remote.h"
#include "host-service/cli/text.h"

struct options {
        char *generation, *key;
        gboolean force, wait, detach;
};

static ExitCode rollback(Cli *cli, const char *vm, const struct options *o, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = client_path("/v1/vms/%s/rollback", vm);
        uint64_t generation = 0;

        if (o->generation && !text_parse_u64("--generation", o->generation, G_MAXINT64, &generation, error))
                return EXIT_CODE_USAGE;
        if (o->wait && o->detach) {
                command_usage_error(error, "--wait and --detach exclude each other");
                return EXIT_CODE_USAGE;
        }
        JsonObject *body = json_object_new();
        json_object_set_int_member(body, "generation", (gint64)generation);
        json_object_set_boolean_member(body, "force", o->force);
        g_autoptr(JsonNode) answer = client_post(c, path, body, o->key, error);
        return answer ? remote_finish(cli, c, answer, o->detach, error) : EXIT_CODE_INTERNAL;
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        struct options o = {0};
        const GOptionEntry entries[] = {
                {"generation", 0, 0, G_OPTION_ARG_FILENAME, &o.generation,
                 "Only if the newest committed generation is this one", "N"},
                {"force", 'f', 0, G_OPTION_ARG_NONE, &o.force, "Although files were changed since", NULL},
                {"wait", 0, 0, G_OPTION_ARG_NONE, &o.wait, "Follow it to its end (default)", NULL},
                {"detach", 0, 0, G_OPTION_ARG_NONE, &o.detach, "Do not wait; print the job's id", NULL},
                {"idempotency-key", 0, 0, G_OPTION_ARG_FILENAME, &o.key,
                 "A request with the same key is the same request (default: a new key)", "KEY"},
                {0},
        };
        ExitCode code = EXIT_CODE_OK;

        if (command_parse(self, cli, entries, 1, 1, &argc, &argv, error))
                code = rollback(cli, argv[1], &o, error);
        g_free(o.generation);
        g_free(o.key);
        return code;
}

const struct command command_rollback = {
        .name = "rollback",
        .arguments = "VM",
        .summary = "Take the newest release of a VM back",
        .run = run,
};
