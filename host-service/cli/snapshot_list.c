/* host-service/cli/snapshot_list.c - moult snapshot list: restore points, and what was pushed between them.
 */
#include <string.h>

#include "host-service/cli/client.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"
#include "host-service/cli/text.h"

static const struct column all_columns[] = {
        {"NAME", "name", COLUMN_TEXT},         {"VM", "vm", COLUMN_TEXT},
        {"STATE", "state", COLUMN_TEXT},       {"TAKEN", "taken", COLUMN_TEXT},
        {"GRADE", "grade", COLUMN_TEXT},       {"FROZEN", "frozen_us", COLUMN_US},
        {"DISKS", "disks", COLUMN_COUNT},      {"SIZE", "size_bytes", COLUMN_BYTES},
        {"UPLOADED", "uploaded", COLUMN_TEXT}, {0},
};

static const struct column vm_columns[] = {
        {"TIME", "time", COLUMN_TEXT},
        {"WHAT", "kind", COLUMN_TEXT},
        {"NAME", "name", COLUMN_TEXT},
        {"STATE", "state", COLUMN_TEXT},
        {"GRADE", "grade", COLUMN_TEXT},
        {"FROZEN", "frozen_us", COLUMN_US},
        {"DISKS", "disks", COLUMN_COUNT},
        {"SIZE", "size_bytes", COLUMN_BYTES},
        {"STORED", "stored_bytes", COLUMN_BYTES},
        {"UPLOADED", "uploaded", COLUMN_TEXT},
        {0},
};

static const char no_snapshots[] = "no snapshots; 'moult snapshot create VM' takes one";

/* For people: what a push is called, in the place where restore points have their names. */
static void name_push(JsonObject *o)
{
        const char *release = json_text(o, "release"), *version = json_text(o, "version");
        g_autofree char *name = NULL;

        if (json_text(o, "name"))
                return;
        if (release)
                name = g_strdup_printf("%s=%s", release, version ? version : "");
        else
                name = g_strdup_printf("generation %" G_GINT64_FORMAT, json_number(o, "generation"));
        json_object_set_string_member(o, "name", name);
}

static void name_pushes(JsonNode *list)
{
        JsonArray *a = JSON_NODE_HOLDS_ARRAY(list) ? json_node_get_array(list) : NULL;

        for (guint i = 0; a && i < json_array_get_length(a); i++) {
                JsonNode *n = json_array_get_element(a, i);

                if (JSON_NODE_HOLDS_OBJECT(n))
                        name_push(json_node_get_object(n));
        }
}

static void list_all(Cli *cli, Client *c, GError **error)
{
        g_autoptr(JsonNode) list = remote_get_member(c, "/v1/snapshots", "snapshots", error);

        if (list)
                output_list(cli, list, all_columns, no_snapshots, error);
}

static void print_schedule(Cli *cli, JsonObject *s)
{
        const struct column next = {"", "next", COLUMN_TIME};
        g_autofree char *every = s ? text_duration_us((uint64_t)MAX(json_number(s, "every_s"), 0) * 1000000)
                                   : NULL,
                        *when = s ? output_cell(s, &next) : NULL;

        if (!s)
                return;
        output_words(cli, "\nSchedule: every %s, the next one at %s\n", every, when);
        if (json_number(s, "failures") > 0)
                output_words(cli, "  %" G_GINT64_FORMAT " in a row have failed; the last one: %s\n",
                             json_number(s, "failures"),
                             json_text(s, "last.text") ? json_text(s, "last.text") : "");
}

static void list_vm(Cli *cli, Client *c, const char *vm, GError **error)
{
        g_autofree char *path = client_path("/v1/snapshots/timeline?vm=%s", vm);
        g_autoptr(JsonNode) answer = client_get(c, path, error);
        g_autoptr(JsonNode) list = answer ? remote_member(answer, "timeline", error) : NULL;

        if (!list)
                return;
        if (cli->format == CLI_FORMAT_TABLE)
                name_pushes(list);
        output_list(cli, list, vm_columns, no_snapshots, error);
        print_schedule(cli, json_child(json_node_get_object(answer), "schedule"));
}

static ExitCode run_list(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        if (!command_parse(self, cli, NULL, 0, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        if (argc > 1)
                list_vm(cli, c, argv[1], error);
        else
                list_all(cli, c, error);
        return EXIT_CODE_OK;
}

const struct command command_snapshot_list = {
        .name = "list",
        .arguments = "[VM]",
        .summary = "The restore points that there are, newest first",
        .details =
                "Of one VM with what was pushed to it, or taken back, since the oldest of them: a time line.",
        .run = run_list,
};
