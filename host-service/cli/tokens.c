/* host-service/cli/tokens.c - moult token new, list, revoke: who may use the API over the network. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/cli/client.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"

struct new_options {
        char *name, *scope, *expires, *out;
};

static const struct column columns[] = {
        {"NAME", "name", COLUMN_TEXT},       {"SCOPE", "scope", COLUMN_TEXT},
        {"STATE", "state", COLUMN_TEXT},     {"CREATED", "created", COLUMN_TEXT},
        {"EXPIRES", "expires", COLUMN_TEXT}, {0},
};

/* "90d" -> seconds; 0 with @error. */
static gint64 parse_life(const char *text, GError **error)
{
        static const struct {
                char unit;
                gint64 seconds;
        } units[] = {{'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}, {'y', 31622400}};
        char *end;
        guint64 n = g_ascii_strtoull(text, &end, 10);

        for (guint i = 0; g_ascii_isdigit(*text) && n > 0 && n <= 1000000 && i < G_N_ELEMENTS(units); i++)
                if (end[0] == units[i].unit && !end[1])
                        return (gint64)n * units[i].seconds;
        command_usage_error(error, "--expires is a number with m, h, d, w or y behind it: 90d; not '%s'",
                            text);
        return 0;
}

/* A file that nobody else can read, and that was not there. */
static int create(const char *path, GError **error)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        if (fd < 0)
                moult_error_errno(error, errno, "making the token file %s", path);
        return fd;
}

static gboolean save(int fd, const char *path, const char *secret, GError **error)
{
        g_autofree char *line = g_strconcat(secret, "\n", NULL);
        gsize len = strlen(line);

        if (write(fd, line, len) == (ssize_t)len && fsync(fd) == 0)
                return TRUE;
        return moult_error_errno(error, errno,
                                 "writing the token file %s; the token exists, and nobody has it: revoke it",
                                 path);
}

static ExitCode make(Cli *cli, const struct new_options *o, gint64 life_s, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        scoped_fd int fd = c && o->out ? create(o->out, error) : -1;
        JsonObject *body;

        if (!c || (o->out && fd < 0))
                return EXIT_CODE_INTERNAL;
        body = json_object_new();
        json_object_set_string_member(body, "name", o->name);
        json_object_set_string_member(body, "scope", o->scope);
        if (life_s)
                json_object_set_int_member(body, "expires_s", life_s);
        g_autoptr(JsonNode) answer = client_post(c, "/v1/tokens", body, NULL, error);
        const char *secret = answer ? json_text(json_node_get_object(answer), "secret") : NULL;

        if (!secret) {
                if (o->out)
                        unlink(o->out);
                return EXIT_CODE_INTERNAL;
        }
        if (o->out) {
                if (!save(fd, o->out, secret, error))
                        return EXIT_CODE_IO;
                json_object_set_null_member(json_node_get_object(answer), "secret");
                if (!output_machine(cli, answer))
                        output_words(cli, "token %s (%s) is in %s\n", o->name, o->scope, o->out);
        } else if (!output_machine(cli, answer)) {
                output_words(cli, "%s\n", secret);
                fprintf(cli->err, "The token is shown only now: it is the whole content of a token file.\n");
        }
        return EXIT_CODE_OK;
}

static ExitCode run_new(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        struct new_options o = {0};
        const GOptionEntry entries[] = {
                {"name", 0, 0, G_OPTION_ARG_STRING, &o.name, "Who will have it; the audit log names it so",
                 "NAME"},
                {"scope", 0, 0, G_OPTION_ARG_STRING, &o.scope,
                 "read, push (also pushes, rollbacks, cancelling) or admin (everything)", "SCOPE"},
                {"expires", 0, 0, G_OPTION_ARG_STRING, &o.expires, "For how long: 90d, 12h (for ever)",
                 "TIME"},
                {"out", 'o', 0, G_OPTION_ARG_FILENAME, &o.out,
                 "Write it to a new file, instead of showing it", "FILE"},
                {0},
        };
        ExitCode code = EXIT_CODE_OK;

        if (command_parse(self, cli, entries, 0, 0, &argc, &argv, error)) {
                gint64 life_s = o.expires ? parse_life(o.expires, error) : 0;

                if (!o.name || !o.scope)
                        command_usage_error(error, "'moult token new' needs --name NAME and --scope SCOPE");
                else if (!o.expires || life_s)
                        code = make(cli, &o, life_s, error);
        }
        g_free(o.name);
        g_free(o.scope);
        g_free(o.expires);
        g_free(o.out);
        return code;
}

static ExitCode run_list(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        if (!command_parse(self, cli, NULL, 0, 0, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autoptr(JsonNode) tokens = c ? remote_get_member(c, "/v1/tokens", "tokens", error) : NULL;
        if (tokens)
                output_list(cli, tokens, columns, "no API tokens; 'moult token new' makes one", error);
        return EXIT_CODE_OK;
}

static ExitCode run_revoke(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        if (!command_parse(self, cli, NULL, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = client_path("/v1/tokens/%s", argv[1]);
        g_autoptr(JsonNode) answer = c ? client_delete(c, path, error) : NULL;
        if (answer && !output_machine(cli, answer))
                output_words(cli, "token %s is revoked\n", argv[1]);
        return EXIT_CODE_OK;
}

static const struct command command_new = {
        .name = "new",
        .arguments = "--name NAME --scope SCOPE",
        .summary = "Make an API token",
        .run = run_new,
};
static const struct command command_list = {.name = "list", .summary = "The API tokens", .run = run_list};
static const struct command command_revoke = {
        .name = "revoke",
        .arguments = "NAME",
        .summary = "Make an API token void, at once and for ever",
        .run = run_revoke,
};
static const struct command *const subcommands[] = {&command_new, &command_list, &command_revoke, NULL};

const struct command command_token = {
        .name = "token",
        .summary = "API tokens: who may use the API over the network",
        .subcommands = subcommands,
};
