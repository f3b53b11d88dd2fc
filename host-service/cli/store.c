/* host-service/cli/store.c - moult store verify, gc, push, pull. */
#include <string.h>

#include "host-service/cli/commands.h"
#include "host-service/cli/remote.h"
#include "host-service/store/share.h"
#include "host-service/store/store.h"

#define NOT_GIVEN G_MININT

static ExitCode finish(Cli *cli, const char *path, JsonObject *body, gboolean detach, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        g_autoptr(JsonNode) answer = client_post(c, path, body, NULL, error);

        return answer ? remote_finish(cli, c, answer, detach, error) : EXIT_CODE_INTERNAL;
}

static ExitCode run_verify(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        gboolean detach = FALSE, shared = FALSE;
        const GOptionEntry entries[] = {
                {"shared", 0, 0, G_OPTION_ARG_NONE, &shared,
                 "The shared store instead: every release there and its chunks", NULL},
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not wait; print the job's id", NULL},
                {0},
        };
        JsonObject *body;

        if (!command_parse(self, cli, entries, 0, 0, &argc, &argv, error))
                return EXIT_CODE_OK;
        body = json_object_new();
        json_object_set_boolean_member(body, "shared", shared);
        return finish(cli, "/v1/store/verify", body, detach, error);
}

const struct command command_store_verify = {
        .name = "verify",
        .arguments = "[OPTION...]",
        .summary = "Check everything in the store: packs, signatures, files, catalogue",
        .details = "Ends with 0 if all is whole, with 13 (corrupt) if anything is damaged, and with 9 "
                   "(untrusted) if "
                   "the only findings are releases whose signer is not trusted any more. Nothing is changed. "
                   "With --shared every byte of the shared store is fetched once.",
        .run = run_verify,
};

/* moultd has the defaults, and says which go together. */
static void set_given(JsonObject *body, const char *member, int value)
{
        if (value != NOT_GIVEN)
                json_object_set_int_member(body, member, value);
}

static ExitCode run_gc(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        gboolean detach = FALSE, dry_run = FALSE, shared = FALSE;
        int keep = NOT_GIVEN, ways_back = NOT_GIVEN, grace = NOT_GIVEN;
        const GOptionEntry entries[] = {
                {"dry-run", 'n', 0, G_OPTION_ARG_NONE, &dry_run,
                 "Only say what would go, and why the rest stays", NULL},
                {"shared", 0, 0, G_OPTION_ARG_NONE, &shared,
                 "The shared store instead: chunks that no release there names", NULL},
                {"grace", 0, 0, G_OPTION_ARG_INT, &grace,
                 "With --shared: what is younger stays (default " G_STRINGIFY(SHARE_GRACE_HOURS_DEFAULT) ")",
                 "HOURS"},
                {"keep", 0, 0, G_OPTION_ARG_INT, &keep,
                 "Newest versions of each name that stay (default " G_STRINGIFY(STORE_KEEP_DEFAULT) ")", "N"},
                {"ways-back", 0, 0, G_OPTION_ARG_INT, &ways_back,
                 "So many releases that a VM had stay for it (default " G_STRINGIFY(
                         STORE_WAYS_BACK_DEFAULT) ")",
                 "N"},
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not wait; print the job's id", NULL},
                {0},
        };
        JsonObject *body;

        if (!command_parse(self, cli, entries, 0, 0, &argc, &argv, error))
                return EXIT_CODE_OK;
        body = json_object_new();
        json_object_set_boolean_member(body, "dry_run", dry_run);
        json_object_set_boolean_member(body, "shared", shared);
        set_given(body, "keep", keep);
        set_given(body, "ways_back", ways_back);
        set_given(body, "grace_hours", grace);
        return finish(cli, "/v1/store/gc", body, detach, error);
}

const struct command command_store_gc = {
        .name = "gc",
        .arguments = "[OPTION...]",
        .summary = "Remove releases that no VM needs, and files that belong to nothing",
        .details = "A release stays while a push of it is under way, while a VM is on it or may roll back to "
                   "it, "
                   "while a VM may map it, and while it is among the newest of its name. With --shared "
                   "only what no release and no snapshot of the shared store needs goes, and nothing that is "
                   "younger than "
                   "--grace: any host may do it at any time.",
        .run = run_gc,
};

/* "NAME=VERSION": a store that others write to is not asked for "the highest". */
static ExitCode run_share(const struct command *self, Cli *cli, int argc, char **argv, const char *path,
                          GError **error)
{
        gboolean detach = FALSE;
        const GOptionEntry entries[] = {
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not wait; print the job's id", NULL},
                {0},
        };
        const char *equals;
        JsonObject *body;

        if (!command_parse(self, cli, entries, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        equals = strchr(argv[1], '=');
        if (!equals) {
                command_usage_error(error, "the release must be named in full: %s=VERSION", argv[1]);
                return EXIT_CODE_USAGE;
        }
        g_autofree char *name = g_strndup(argv[1], (gsize)(equals - argv[1]));
        body = json_object_new();
        json_object_set_string_member(body, "release", name);
        json_object_set_string_member(body, "version", equals + 1);
        return finish(cli, path, body, detach, error);
}

static ExitCode run_push(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        return run_share(self, cli, argc, argv, "/v1/store/push", error);
}

static ExitCode run_pull(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        return run_share(self, cli, argc, argv, "/v1/store/pull", error);
}

const struct command command_store_push = {
        .name = "push",
        .arguments = "NAME=VERSION",
        .summary = "Put a release into the shared store, for other hosts",
        .details =
                "Only what the shared store lacks is sent. It is tried again while the store is down, and a "
                "push that was cut off goes on where it was when it is asked for again.",
        .run = run_push,
};

const struct command command_store_pull = {
        .name = "pull",
        .arguments = "NAME=VERSION",
        .summary = "Take a release from the shared store, and verify it",
        .details = "Only what this host lacks is fetched. Nothing of the shared store is believed: the "
                   "release is "
                   "taken in if its signature is by a trusted key and every content has its digest.",
        .run = run_pull,
};
