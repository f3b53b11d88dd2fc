/* host-service/cli/doctor.c - moult doctor: what is wrong with this host or a VM, and what to do. */
#include <string.h>

#include "host-service/cli/client.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"

static void print_checks(Cli *cli, JsonArray *checks, gboolean all)
{
        guint shown = 0;

        for (guint i = 0; i < json_array_get_length(checks); i++) {
                JsonObject *check = json_array_get_object_element(checks, i);
                const char *severity = json_text(check, "severity");

                if (!strcmp(severity, "ok") && !all)
                        continue;
                shown++;
                fprintf(cli->out, "%-8s %s", severity, json_text(check, "id"));
                if (json_text(check, "found"))
                        fprintf(cli->out, ": %s\n         to do: %s", json_text(check, "found"),
                                json_text(check, "action"));
                fprintf(cli->out, "\n");
        }
        if (!shown)
                fprintf(cli->out, "nothing is wrong (%u checks)\n", json_array_get_length(checks));
}

/* What runs in the VM, in one line; nothing for a host, or if its agent told nothing. */
static void print_guest(Cli *cli, JsonObject *report)
{
        if (!json_text(report, "guest.software"))
                return;
        fprintf(cli->out, "guest    %s, Linux %s, clock %+.3f s\n", json_text(report, "guest.software"),
                json_text(report, "guest.kernel.release") ? json_text(report, "guest.kernel.release") : "?",
                (double)json_number(report, "guest.clock_offset_ms") / 1000);
}

/* TRUE if @node is a report that can be printed: an array of objects with texts. */
static gboolean is_report(JsonObject *o)
{
        JsonArray *checks = json_list(o, "checks");

        for (guint i = 0; checks && i < json_array_get_length(checks); i++) {
                JsonNode *node = json_array_get_element(checks, i);

                if (!JSON_NODE_HOLDS_OBJECT(node) || !json_text(json_node_get_object(node), "id") ||
                    !json_text(json_node_get_object(node), "severity"))
                        return FALSE;
        }
        return checks && json_text(o, "worst");
}

static ExitCode diagnose(Cli *cli, const char *vm, gboolean all, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = vm ? client_path("/v1/doctor?vm=%s", vm) : g_strdup("/v1/doctor");
        g_autoptr(JsonNode) report = client_get(c, path, error);
        const char *worst;

        if (!report)
                return EXIT_CODE_INTERNAL;
        if (!JSON_NODE_HOLDS_OBJECT(report) || !is_report(json_node_get_object(report))) {
                g_set_error_literal(
                        error, CLI_ERROR, CLI_ERROR_DAEMON,
                        "moultd's answer is no report: it is of another version than this command");
                return EXIT_CODE_INTERNAL;
        }
        if (!output_machine(cli, report)) {
                print_checks(cli, json_list(json_node_get_object(report), "checks"), all);
                if (all)
                        print_guest(cli, json_node_get_object(report));
        }
        worst = json_text(json_node_get_object(report), "worst");
        return !strcmp(worst, "ok") || !strcmp(worst, "notice") ? EXIT_CODE_OK : EXIT_CODE_INTERNAL;
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        gboolean all = FALSE;
        const GOptionEntry entries[] = {
                {"all", 0, 0, G_OPTION_ARG_NONE, &all, "Also what is well", NULL},
                {0},
        };

        if (!command_parse(self, cli, entries, 0, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        return diagnose(cli, argc > 1 ? argv[1] : NULL, all, error);
}

const struct command command_doctor = {
        .name = "doctor",
        .arguments = "[VM]",
        .summary = "What is wrong with this host, or with a VM, and what to do",
        .details = "Ends with 1 if something is wrong (a warning or an error), with 0 if not.",
        .run = run,
};
