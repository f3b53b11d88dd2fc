/* host-service/cli/snapshot_schedule.c - moult snapshot schedule: snapshots that are taken by themselves. */
#include "host-service/cli/client.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"
#include "host-service/cli/snapshot.h"
#include "host-service/cli/text.h"

#define EVERY_MIN_MS UINT64_C(60000)
#define EVERY_MAX_MS (UINT64_C(400) * 86400 * 1000)

static const struct column columns[] = {
        {"VM", "vm", COLUMN_TEXT},
        {"EVERY", "every", COLUMN_TEXT},
        {"AT", "at", COLUMN_TEXT},
        {"NEXT", "next", COLUMN_TIME},
        {"NOW", "operation", COLUMN_TEXT},
        {"LAST", "last.ended", COLUMN_TIME},
        {"OK", "last.ok", COLUMN_TEXT},
        {"FAILURES", "failures", COLUMN_TEXT},
        {"WHY", "last.text", COLUMN_TEXT},
        {"OPTIONS", "options", COLUMN_MAP},
        {0},
};

/* For people: "6 h". */
static void name_period(JsonObject *o)
{
        g_autofree char *text = text_duration_us((uint64_t)MAX(json_number(o, "every_s"), 0) * 1000000);

        json_object_set_string_member(o, "every", text);
}

static ExitCode show_all(Cli *cli, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        g_autoptr(JsonNode) list = remote_get_member(c, "/v1/snapshots/schedules", "schedules", error);
        JsonArray *a = list && JSON_NODE_HOLDS_ARRAY(list) ? json_node_get_array(list) : NULL;

        if (!list)
                return EXIT_CODE_OK;
        for (guint i = 0; a && cli->format == CLI_FORMAT_TABLE && i < json_array_get_length(a); i++)
                name_period(json_array_get_object_element(a, i));
        output_list(cli, list, columns, "no schedules; 'moult snapshot schedule VM --every 6h' makes one",
                    error);
        return EXIT_CODE_OK;
}

static ExitCode take_off(Cli *cli, const char *vm, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = client_path("/v1/snapshots/schedules/%s", vm);
        g_autoptr(JsonNode) answer = client_delete(c, path, error);

        if (answer && !output_machine(cli, answer))
                output_words(cli, "%s: no snapshots are taken by themselves any more; those there are stay\n",
                             vm);
        return EXIT_CODE_OK;
}

static ExitCode set(Cli *cli, JsonObject *body, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        g_autoptr(JsonNode) answer = client_post(c, "/v1/snapshots/schedules", body, NULL, error);
        g_autoptr(JsonNode) schedule = answer ? remote_member(answer, "schedule", error) : NULL;

        if (!schedule)
                return EXIT_CODE_OK;
        if (cli->format == CLI_FORMAT_TABLE && JSON_NODE_HOLDS_OBJECT(schedule))
                name_period(json_node_get_object(schedule));
        output_object(cli, schedule, columns, error);
        return EXIT_CODE_OK;
}

static ExitCode run_schedule(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        g_autofree char *every = NULL, *at = NULL;
        gboolean off = FALSE, no_quiesce = FALSE, no_upload = FALSE;
        struct snapshot_keep keep = {{0}};
        GOptionEntry entries[16] = {
                {"every", 0, 0, G_OPTION_ARG_STRING, &every, "How long from one to the next: 30m, 6h, 1d",
                 "TIME"},
                {"at", 0, 0, G_OPTION_ARG_STRING, &at,
                 "One of them is at this time of day (of moultd's host)", "HH:MM"},
                {"no-quiesce", 0, 0, G_OPTION_ARG_NONE, &no_quiesce, "Freeze nothing in the guest", NULL},
                {"no-upload", 0, 0, G_OPTION_ARG_NONE, &no_upload, "Keep them in files of this host", NULL},
                {"off", 0, 0, G_OPTION_ARG_NONE, &off, "Take none by themselves any more", NULL},
        };
        uint64_t every_ms = 0;
        JsonObject *body;

        snapshot_keep_entries(entries + 5, &keep);
        if (!command_parse(self, cli, entries, 0, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        if (argc < 2 && !every && !off)
                return show_all(cli, error);
        if (argc < 2 || (off ? every != NULL : every == NULL)) {
                command_usage_error(error, "say of which VM, and either --every TIME or --off");
                return EXIT_CODE_USAGE;
        }
        if (off)
                return take_off(cli, argv[1], error);
        if (!text_parse_duration_ms(every, EVERY_MAX_MS, &every_ms, error))
                return EXIT_CODE_USAGE;
        if (every_ms < EVERY_MIN_MS) {
                command_usage_error(error, "--every %s: a period has from 1 minute to 400 days", every);
                return EXIT_CODE_USAGE;
        }
        body = json_object_new();
        json_object_set_string_member(body, "vm", argv[1]);
        json_object_set_int_member(body, "every_s", (gint64)(every_ms / 1000));
        if (at)
                json_object_set_string_member(body, "at", at);
        json_object_set_boolean_member(body, "quiesce", !no_quiesce);
        json_object_set_boolean_member(body, "upload", !no_upload);
        snapshot_keep_add(body, &keep);
        return set(cli, body, error);
}

const struct command command_snapshot_schedule = {
        .name = "schedule",
        .arguments = "[VM --every TIME [OPTION...] | VM --off]",
        .summary = "Take snapshots of a VM by themselves, and remove old ones",
        .details = "moultd takes them, from one period later on, or at a time of day. One that was missed, "
                   "because moultd did not run, is made up for, once. With --keep-... the VM is pruned after "
                   "each that went well. Without a VM: the schedules there are, and how the last one of each "
                   "went.",
        .run = run_schedule,
};
